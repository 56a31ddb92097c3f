/* The websocket of a live log: comes back after a cut with the last number it has, and stops at the log's end. */

const FIRST_WAIT_MS = 400
const LONGEST_WAIT_MS = 15000
const ENDED = 1000

export class LiveLog {
  #deployment
  #heard
  #after = 0
  #wait = FIRST_WAIT_MS

  /** *heard* has three functions: lines(lines), end(end) and connected(isConnected). */
  constructor(deployment, heard) {
    this.#deployment = deployment
    this.#heard = heard
    this.#connect()
  }

  #connect() {
    const url = new URL(`/api/v1/deployments/${this.#deployment}/live?after=${this.#after}`, location.href)
    url.protocol = url.protocol.replace('http', 'ws')
    const socket = new WebSocket(url)
    socket.addEventListener('open', () => this.#heard.connected(true))
    socket.addEventListener('message', (event) => this.#take(JSON.parse(event.data)))
    socket.addEventListener('close', (event) => {
      if (event.code !== ENDED) this.#comeBack()
    })
  }

  #take(message) {
    this.#wait = FIRST_WAIT_MS
    if (message.end) return this.#heard.end(message.end)
    const fresh = message.filter((line) => line.number > this.#after)
    if (!fresh.length) return
    this.#after = fresh.at(-1).number
    this.#heard.lines(fresh)
  }

  #comeBack() {
    this.#heard.connected(false)
    setTimeout(() => this.#connect(), this.#wait * (0.75 + Math.random() / 2))
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS)
  }
}
