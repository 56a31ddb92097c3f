import './style.css'
import { listed } from './facts.js'
import { drawMesh } from './mesh.js'

const facts = __FACTS__

document.getElementById('environment').textContent = facts.environment

const list = document.getElementById('facts')
for (const [label, text] of listed(facts)) {
  const term = document.createElement('dt')
  const value = document.createElement('dd')
  term.textContent = label
  value.textContent = text
  list.append(term, value)
}

const canvas = document.getElementById('mesh')
const draw = () => drawMesh(canvas, facts.commit || 'scale mesh')
draw()
window.addEventListener('resize', draw)
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw)
