"""What runs in the browser for the charts, as source: following, and saving what is shown. It knows no Python object.

It is given Bokeh's models by name; see `charts.Charts` for which.
"""

from __future__ import annotations

# Bokeh's own controls know no dark theme; these variables are Jupyter's.
THEMED = """
.bk-btn, .bk-input {
  color: var(--jp-ui-font-color1, inherit) !important;
  background-color: var(--jp-layout-color2, transparent) !important;
  border-color: var(--jp-border-color1, currentColor) !important;
}
label {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
}
.bk-btn.bk-active {
  outline: 2px solid var(--jp-brand-color1, currentColor);
}
"""

FOLLOW = """
const at = source.data.at
if (at.length > 0 && !pause.active) {
  const end = at[at.length - 1]
  range.setv({start: end - 1000 * Number(window_s.value), end})
}
const ink = getComputedStyle(document.body).getPropertyValue('--jp-ui-font-color1').trim()
if (ink !== '' && ink !== String(legend.tags[0])) {
  legend.tags = [ink]
  for (const figure of figures) {
    figure.title.text_color = ink
    for (const axis of [...figure.below, ...figure.left]) {
      axis.setv({major_label_text_color: ink, axis_label_text_color: ink})
    }
  }
  for (const remark of remarks) {
    remark.text_color = ink
  }
}
// A range that follows its data by itself has no axis before there are any.
const ceiling = top => {
  const power = 10 ** Math.floor(Math.log10(top))
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= top * (1 - 1e-9))
}
for (const [k, key] of keys.entries()) {
  let top = -1
  for (const [name, values] of Object.entries(source.data)) {
    if (name.replace(/_[0-9]+$/, '') !== key) {
      continue
    }
    for (let i = at.length - 1; i >= 0 && at[i] >= range.start; i -= 1) {
      top = values[i] > top ? values[i] : top
    }
  }
  remarks[k].visible = top < 0
  const range_y = figures[k].y_range
  if (!range_y.tags.includes('fixed')) {
    range_y.end = top > 0 ? ceiling(top) : 1
  }
}
"""

SAVE_CSV = """
const columns = Object.keys(source.data).filter(key => key !== 'at')
const quote = text => '"' + (/^[=+\\-@]/.test(text) ? "'" : '') + String(text).replaceAll('"', '""') + '"'
const lines = [['at', ...columns.map(key => labels[key] ?? key)].map(quote).join(',')]
for (let i = 0; i < source.data.at.length; i += 1) {
  const values = columns.map(key => source.data[key][i])
  const shown = values.map(value => (Number.isFinite(value) ? String(value) : ''))
  lines.push([new Date(source.data.at[i]).toISOString(), ...shown].join(','))
}
const link = document.createElement('a')
link.href = URL.createObjectURL(new Blob([lines.join('\\n') + '\\n'], {type: 'text/csv'}))
link.download = 'exo-lab-telemetry.csv'
link.click()
setTimeout(() => URL.revokeObjectURL(link.href), 10000)
"""

# Bokeh's own button saves nothing where a layout has several figures; what a picture is of stands above it.
SAVE_PNG = """
const charts = Bokeh.index.find_one(grid).export('png').canvas
const style = getComputedStyle(document.body)
const scale = window.devicePixelRatio || 1
const head = 30 * scale
const canvas = document.createElement('canvas')
canvas.width = charts.width
canvas.height = charts.height + head
const pen = canvas.getContext('2d')
pen.fillStyle = style.getPropertyValue('--jp-layout-color0').trim() || 'white'
pen.fillRect(0, 0, canvas.width, canvas.height)
pen.drawImage(charts, 0, head)
pen.scale(scale, scale)
pen.font = '13px sans-serif'
pen.textBaseline = 'middle'
pen.lineWidth = 3
let x = 8
for (const [label, colour, dashes] of entries) {
  pen.strokeStyle = colour
  pen.setLineDash(dashes)
  pen.beginPath()
  pen.moveTo(x, 15)
  pen.lineTo(x + 32, 15)
  pen.stroke()
  pen.fillStyle = style.getPropertyValue('--jp-ui-font-color1').trim() || 'black'
  pen.fillText(label, x + 38, 15)
  x += 38 + pen.measureText(label).width + 18
}
canvas.toBlob(blob => {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(blob)
  link.download = 'exo-lab-telemetry.png'
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10000)
})
"""
