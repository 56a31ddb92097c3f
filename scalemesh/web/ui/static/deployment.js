/* A deployment's page: the log as it comes, the state as it changes, search, copy, links to lines. */

import { LiveLog } from './live.js'
import { LogView } from './log_view.js'
import { swap } from './swap.js'

const LOOK_MS = 3000
const SEARCH_MS = 150

const byId = (id) => document.getElementById(id)
const box = byId('log')
const id = box.dataset.deployment
const isRunning = !byId('summary').dataset.final
const hasFailed = byId('summary').dataset.state === 'Failed'
const linked = () => Number(/^#L([1-9][0-9]{0,9})$/.exec(location.hash)?.[1] ?? 0)

let isOver = !isRunning
let step = null
let wanted = linked()

const view = new LogView(box, JSON.parse(box.dataset.steps), {
  isFollowing: !wanted && (isRunning || hasFailed),
  followChanged: (isFollowing) => (byId('to-tail').hidden = isFollowing || isOver),
})

new LiveLog(id, {
  lines(lines) {
    view.append(lines)
    if (lines.at(-1).step !== step) look()
    step = lines.at(-1).step
    if (wanted && lines.at(-1).number >= wanted) requestAnimationFrame(() => requestAnimationFrame(showLinked))
    if (query.value) searchSoon()
  },
  end() {
    isOver = true
    byId('to-tail').hidden = true
    look()
  },
  connected(isConnected) {
    byId('connection').textContent = isConnected ? '' : 'The connection was cut. Coming back…'
  },
})

/* The state: asked for whenever the log begins a new step, at its end, and now and then while it runs. */
async function look() {
  const before = byId('summary').dataset
  const fresh = await swap(`/deployments/${id}/summary`, 'summary')
  if (!fresh || fresh.dataset.state === before.state) return
  byId('status').textContent = `${fresh.dataset.state}: ${fresh.querySelector('h1').textContent}`
  document.title = `${fresh.dataset.state} · ${fresh.querySelector('h1').textContent} · Scale Mesh`
}

setInterval(() => {
  if (!document.hidden && !byId('summary').dataset.final) look()
}, LOOK_MS)

/* Links to lines */
function showLinked() {
  if (!wanted || !view.reveal(wanted)) return
  view.mark([], wanted)
  wanted = 0
}
addEventListener('hashchange', () => {
  wanted = linked()
  showLinked()
})
byId('to-tail').addEventListener('click', () => view.follow())

/* Search: Enter goes to the next line found, Shift+Enter to the one before. */
const query = byId('q')
let found = []
let place = -1
let searching = 0

function search() {
  found = view.find(query.value)
  place = Math.min(Math.max(place, 0), found.length - 1)
  showFound()
}
function searchSoon() {
  clearTimeout(searching)
  searching = setTimeout(search, SEARCH_MS)
}
function showFound() {
  const said = found.length ? `${place + 1} of ${found.length}` : 'nothing'
  byId('hits').textContent = query.value ? said : ''
  view.mark(found, found[place] ?? 0)
}
query.addEventListener('input', () => {
  place = 0
  searchSoon()
})
byId('search').addEventListener('submit', (event) => {
  event.preventDefault()
})
query.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !found.length) return
  place = (place + (event.shiftKey ? -1 : 1) + found.length) % found.length
  showFound()
  view.reveal(found[place])
})

if (navigator.clipboard) {
  const button = byId('copy-log')
  button.hidden = false
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(view.text())
    button.textContent = 'Copied'
    setTimeout(() => (button.textContent = 'Copy'), 2000)
  })
}
