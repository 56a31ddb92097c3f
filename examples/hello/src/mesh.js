/** Draws a mesh of points and threads whose places come from *seed* alone: one commit, one picture. */
export function drawMesh(canvas, seed) {
  const { clientWidth: width, clientHeight: height } = canvas
  const scale = window.devicePixelRatio || 1
  canvas.width = width * scale
  canvas.height = height * scale
  const pen = canvas.getContext('2d')
  pen.scale(scale, scale)
  const points = placed(width, height, numbers(seed))
  const colour = getComputedStyle(canvas).color
  threads(pen, points, colour)
  knots(pen, points, colour)
}

function placed(width, height, next) {
  const count = Math.min(180, Math.round((width * height) / 8_000))
  return Array.from({ length: count }, () => ({ x: next() * width, y: next() * height, r: 0.8 + next() * 1.8 }))
}

function threads(pen, points, colour) {
  const reach = 150
  pen.strokeStyle = colour
  pen.lineWidth = 0.7
  points.forEach((from, index) => {
    for (const to of points.slice(index + 1)) {
      const distance = Math.hypot(from.x - to.x, from.y - to.y)
      if (distance > reach) continue
      pen.globalAlpha = 0.5 * (1 - distance / reach)
      pen.beginPath()
      pen.moveTo(from.x, from.y)
      pen.lineTo(to.x, to.y)
      pen.stroke()
    }
  })
}

function knots(pen, points, colour) {
  pen.fillStyle = colour
  pen.globalAlpha = 0.8
  for (const { x, y, r } of points) {
    pen.beginPath()
    pen.arc(x, y, r, 0, 2 * Math.PI)
    pen.fill()
  }
}

/** mulberry32: the same text gives the same numbers in [0, 1) in every browser. */
function numbers(text) {
  let state = [...text].reduce((hash, letter) => Math.imul(hash ^ letter.codePointAt(0), 16777619), 2166136261)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
