/* Replaces a part of the page by a fresh one from the server, without taking anything from under a person's hands. */

/** Fetch *url* and put its element *id* in place of ours; the fresh element, or null if nothing was replaced. */
export async function swap(url, id) {
  const response = await fetch(url, { headers: { Accept: 'text/html' }, redirect: 'error' }).catch(() => null)
  if (!response?.ok) return null
  const page = new DOMParser().parseFromString(await response.text(), 'text/html')
  const [old, fresh] = [document.getElementById(id), page.getElementById(id)]
  if (!old || !fresh || isBusy(old)) return null
  const held = old.contains(document.activeElement) ? nameOf(document.activeElement) : null
  old.replaceWith(document.adoptNode(fresh))
  if (held) [...fresh.querySelectorAll('a, button, input')].find((element) => nameOf(element) === held)?.focus()
  return fresh
}

/** A question is open, or somebody types. */
function isBusy(element) {
  if (element.querySelector(':popover-open')) return true
  return element.contains(document.activeElement) && document.activeElement.matches('input, textarea')
}

function nameOf(element) {
  return [element.tagName, element.getAttribute('href'), element.getAttribute('popovertarget'), element.form?.action].join(' ')
}
