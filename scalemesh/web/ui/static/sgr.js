/* Colour sequences (SGR) of a log line -> [[classes, text], …]. The page as it is served has the same from sgr.py. */

const ESCAPE = /\x1b\[([0-9;:]*)m/
const FLAGS = { 1: 'bold', 2: 'dim', 3: 'italic', 4: 'underline', 7: 'inverse', 9: 'strike' }
const ENDS = { 22: ['bold', 'dim'], 23: ['italic'], 24: ['underline'], 27: ['inverse'], 29: ['strike'] }
const MAX_CODES = 32

export function plain(text) {
  return text.includes('\x1b') ? text.replace(new RegExp(ESCAPE, 'g'), '') : text
}

export function spans(text) {
  if (!text.includes('\x1b')) return text ? [['', text]] : []
  const look = { f: null, b: null, flags: new Set() }
  const found = []
  text.split(ESCAPE).forEach((part, index) => {
    if (index % 2) {
      const codes = part.split(/[;:]/).slice(0, MAX_CODES).filter((code) => code.length < 4)
      change(look, codes.map(Number))
    } else if (part) {
      found.push([classes(look), part])
    }
  })
  return found
}

function classes({ f, b, flags }) {
  const colours = [f === null ? [] : `f${f}`, b === null ? [] : `b${b}`].flat()
  return [...colours, ...[...flags].sort()].join(' ')
}

function change(look, codes) {
  while (codes.length) {
    const code = codes.shift()
    if (code === 38) look.f = extended(codes)
    else if (code === 48) look.b = extended(codes)
    else simple(look, code)
  }
}

function simple(look, code) {
  if (code === 0) Object.assign(look, { f: null, b: null, flags: new Set() })
  else if (FLAGS[code]) look.flags.add(FLAGS[code])
  else if (ENDS[code]) ENDS[code].forEach((flag) => look.flags.delete(flag))
  else if (code === 39) look.f = null
  else if (code === 49) look.b = null
  else
    for (const [first, shift] of [[30, 0], [90, 8]]) {
      if (code >= first && code < first + 8) look.f = code - first + shift
      if (code >= first + 10 && code < first + 18) look.b = code - first - 10 + shift
    }
}

function extended(codes) {
  const kind = codes.shift()
  if (kind === 5) return of256(codes.shift() ?? 0)
  if (kind === 2) return nearest(codes.shift() ?? 0, codes.shift() ?? 0, codes.shift() ?? 0)
  return null
}

function of256(number) {
  if (number < 16) return number
  if (number >= 232) return nearest(...Array(3).fill((number - 232) * 10 + 8))
  const cube = number - 16
  const levels = [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6]
  return nearest(...levels.map((level) => level * 40 + (level > 0 ? 55 : 0)))
}

function nearest(red, green, blue) {
  const high = Math.max(red, green, blue)
  const low = Math.min(red, green, blue)
  if (high - low < 48) return [0, 8, 7, 15][Math.min(Math.floor(high / 64), 3)]
  const half = Math.floor((high + low) / 2)
  return (red > half) + 2 * (green > half) + 4 * (blue > half) + 8 * (high > 215)
}
