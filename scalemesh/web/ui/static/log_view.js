/* A log of any length: steps, and in them chunks of lines. Only the chunks near the window have their lines in the page. */

import { plain, spans } from './sgr.js'
import { span } from './times.js'

const CHUNK_LINES = 200
const NEAR_PX = 1200
const LINE_PX = 20
const TAIL_PX = 24
const MOST_STEPS = 200 //: a log that hops between its steps more often goes on in the last one

export class LogView {
  #box
  #names
  #steps = []
  #chunks = []
  #coming = []
  #isFollowing
  #lastTop = 0
  #marks = { hits: new Set(), now: 0 }
  #observer
  #followChanged

  /** *names*: step -> what people call it. *followChanged* hears whether the tail is followed. */
  constructor(box, names, { isFollowing, followChanged }) {
    this.#box = box
    this.#names = names
    this.#isFollowing = isFollowing
    this.#followChanged = followChanged
    this.#observer = new IntersectionObserver((seen) => this.#nearChanged(seen), { root: box, rootMargin: `${NEAR_PX}px 0px` })
    box.addEventListener('scroll', () => this.#scrolled(), { passive: true })
  }

  get count() {
    return this.#chunks.length ? this.#chunks.at(-1).lines.at(-1).number : 0
  }

  /** Take *lines*; what comes within one frame is drawn together. */
  append(lines) {
    if (!this.#coming.length) requestAnimationFrame(() => this.#draw())
    this.#coming.push(...lines)
  }

  /** All lines, without colours. */
  text() {
    return this.#chunks.flatMap((chunk) => chunk.lines.map((line) => plain(line.text))).join('\n')
  }

  /** The numbers of the lines that have *text*, letter case and colours ignored. */
  find(text) {
    const wanted = text.toLowerCase()
    if (!wanted) return []
    return this.#chunks.flatMap((chunk) =>
      chunk.lines.filter((line) => plain(line.text).toLowerCase().includes(wanted)).map((line) => line.number)
    )
  }

  /** Mark the lines *numbers*, and *now* among them. */
  mark(numbers, now) {
    this.#marks = { hits: new Set(numbers), now }
    this.#chunks.filter((chunk) => chunk.isFilled).forEach((chunk) => this.#markChunk(chunk))
  }

  /** Bring line *number* to the middle of the window; false if there is none. */
  reveal(number) {
    const chunk = this.#chunks.find((one) => one.lines.at(-1).number >= number)
    if (!chunk || number < 1) return false
    this.#follow(false)
    chunk.element.closest('details').open = true
    this.#fill(chunk)
    const line = document.getElementById(`L${number}`)
    const middle = this.#box.getBoundingClientRect().top + this.#box.clientHeight / 2
    this.#box.scrollTop += line.getBoundingClientRect().top - middle
    return true
  }

  /** Go to the tail and stay there. */
  follow() {
    this.#follow(true)
    this.#toTail()
  }

  #draw() {
    const lines = this.#coming
    this.#coming = []
    if (!this.#steps.length) this.#box.replaceChildren()
    for (const line of lines) this.#add(line)
    for (const step of this.#steps) if (step.isChanged) this.#time(step)
    if (this.#isFollowing) this.#toTail()
  }

  #add(line) {
    let step = this.#steps.at(-1)
    if (!step || (step.name !== line.step && this.#steps.length < MOST_STEPS)) step = this.#newStep(line)
    let chunk = this.#chunks.at(-1)
    if (!chunk || chunk.step !== step || chunk.lines.length >= CHUNK_LINES) chunk = this.#newChunk(step)
    chunk.lines.push(line)
    step.last = line.at
    step.isChanged = true
    if (chunk.isFilled) chunk.element.append(this.#drawn(line))
    else chunk.element.style.height = `${chunk.lines.length * LINE_PX}px`
  }

  #newStep(line) {
    const [element, summary, lines] = ['details', 'summary', 'div'].map((tag) => document.createElement(tag))
    const [name, took] = [document.createElement('span'), document.createElement('span')]
    element.className = 'step'
    element.open = true
    name.textContent = this.#names[line.step] ?? line.step
    took.className = 'took'
    lines.className = 'lines'
    summary.append(name, took)
    element.append(summary, lines)
    this.#box.append(element)
    const before = this.#steps.at(-1)
    if (before) Object.assign(before, { last: line.at, isChanged: true })
    const step = { name: line.step, first: line.at, last: line.at, took, lines, isChanged: true }
    this.#steps.push(step)
    return step
  }

  #newChunk(step) {
    const chunk = { step, lines: [], element: document.createElement('div'), isFilled: false }
    chunk.element.chunk = chunk
    step.lines.append(chunk.element)
    this.#chunks.push(chunk)
    this.#observer.observe(chunk.element)
    return chunk
  }

  #time(step) {
    step.isChanged = false
    step.took.textContent = span((Date.parse(step.last) - Date.parse(step.first)) / 1000)
  }

  #nearChanged(seen) {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) this.#fill(target.chunk)
      else this.#empty(target.chunk)
    }
    if (this.#isFollowing) this.#toTail()
  }

  #fill(chunk) {
    if (chunk.isFilled) return
    chunk.isFilled = true
    chunk.element.style.height = ''
    chunk.element.replaceChildren(...chunk.lines.map((line) => this.#drawn(line)))
  }

  #empty(chunk) {
    if (!chunk.isFilled || !chunk.element.offsetHeight) return
    chunk.isFilled = false
    chunk.element.style.height = `${chunk.element.offsetHeight}px`
    chunk.element.replaceChildren()
  }

  #drawn(line) {
    const [element, number, text] = ['div', 'a', 'span'].map((tag) => document.createElement(tag))
    element.id = `L${line.number}`
    element.className = `line ${line.stream}${this.#markOf(line.number)}`
    number.href = `#L${line.number}`
    number.tabIndex = -1
    number.title = new Date(line.at).toLocaleTimeString()
    number.textContent = line.number
    text.append(...spans(line.text).map(([classes, part]) => coloured(classes, part)))
    element.append(number, text)
    return element
  }

  #markChunk(chunk) {
    chunk.lines.forEach((line, index) => {
      chunk.element.children[index].className = `line ${line.stream}${this.#markOf(line.number)}`
    })
  }

  #markOf(number) {
    if (number === this.#marks.now) return ' now'
    return this.#marks.hits.has(number) ? ' hit' : ''
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box
    if (scrollHeight - scrollTop - clientHeight < TAIL_PX) this.#follow(true)
    else if (scrollTop < this.#lastTop) this.#follow(false)
    this.#lastTop = scrollTop
  }

  #toTail() {
    this.#box.scrollTop = this.#box.scrollHeight
    this.#lastTop = this.#box.scrollTop
  }

  #follow(isFollowing) {
    if (isFollowing === this.#isFollowing) return
    this.#isFollowing = isFollowing
    this.#followChanged(isFollowing)
  }
}

function coloured(classes, text) {
  if (!classes) return document.createTextNode(text)
  const element = document.createElement('span')
  element.className = classes
  element.textContent = text
  return element
}
