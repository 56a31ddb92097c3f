/* Times that go on: "3 min ago" and durations of what still runs. The words are those of words.py. */

export function ago(at, now) {
  const seconds = Math.floor((now - at) / 1000)
  if (seconds < 10) return 'just now'
  if (seconds < 60) return `${seconds} s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`
  const days = Math.floor(seconds / 86400)
  if (days < 30) return days === 1 ? 'yesterday' : `${days} days ago`
  return null // the date that the server wrote stays
}

export function span(seconds) {
  if (seconds < 10) return `${(Math.floor(Math.max(seconds, 0) * 10) / 10).toFixed(1)} s`
  const whole = Math.floor(seconds)
  if (whole < 60) return `${whole} s`
  const two = (number) => String(number).padStart(2, '0')
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
}

export function keepTimes() {
  const tick = () => {
    for (const element of document.querySelectorAll('[data-since]')) {
      element.textContent = span((Date.now() - Date.parse(element.dataset.since)) / 1000)
    }
    for (const element of document.querySelectorAll('time[data-ago]')) {
      const text = ago(Date.parse(element.dateTime), Date.now())
      if (text && text !== element.textContent) element.textContent = text
    }
  }
  setInterval(tick, 1000)
}
