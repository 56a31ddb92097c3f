/* What every page does: times go on, lists stay fresh, secrets can be copied. */

import { swap } from './swap.js'
import { keepTimes } from './times.js'

const ACTIVE_MS = 2500
const CALM_MS = 15000

document.documentElement.classList.add('scripted')
keepTimes()
offerCopies()
const list = document.querySelector('[data-refresh]')
if (list) keepFresh(list)

function offerCopies() {
  if (!navigator.clipboard) return
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.hidden = false
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent)
      button.textContent = 'Copied'
    })
  }
}

function keepFresh(element) {
  const wait = element.dataset.refresh === 'active' ? ACTIVE_MS : CALM_MS
  setTimeout(async () => {
    const fresh = document.hidden ? null : await swap(element.dataset.from ?? location.href, element.id)
    if (!fresh || 'refresh' in fresh.dataset) keepFresh(fresh ?? element)
  }, wait)
}
