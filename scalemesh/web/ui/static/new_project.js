/* Suggests the name that the project would get from the Git URL. */

const url = document.getElementById('git_url')
const name = document.getElementById('name')
const usual = name.placeholder

url.addEventListener('input', () => {
  const last = url.value.trim().replace(/[/]+$/, '').replace(/[.]git$/, '').split(/[/:]/).pop()
  const words = last.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 40)
  name.placeholder = words || usual
})
