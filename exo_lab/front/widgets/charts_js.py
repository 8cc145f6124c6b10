"""What runs in the browser for the charts, as source: following, the table, and saving what is shown.

It knows no Python object: it is given Bokeh's models by name; see `charts.Charts` for which.
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

TABLED = """
table { border-collapse: collapse; color: var(--jp-ui-font-color1, currentColor); font-size: 13px; }
caption { padding: 2px 0; text-align: left; }
th, td {
  padding: 3px 10px;
  border-bottom: 1px solid var(--jp-border-color2, currentColor);
  text-align: right;
  vertical-align: top;
}
th { font-weight: 600; }
td, tbody th { white-space: nowrap; }
tbody th, thead th:first-child { text-align: left; }
"""

# The same figures for those who do not see the charts. A table that changes twice a second cannot be read aloud.
TABULATE = """
grid.visible = !as_table.active
table.visible = as_table.active
draw.disabled = as_table.active
const due = cb_obj !== source || (!pause.active && Date.now() - Number(table.tags[0]) >= 5000)
if (as_table.active && due) {
  const {at} = source.data
  const esc = text => String(text).replace(/[&<>"']/g, one => '&#' + one.charCodeAt(0) + ';')
  const show = value => esc(Number(value.toPrecision(3)))
  const within = column => [...source.data[column] ?? []].filter(
    (value, i) => Number.isFinite(value) && at[i] >= range.start && at[i] <= range.end
  )
  const cell = (values, threshold) => {
    if (values.length === 0) {
      return '<td></td>'
    }
    const latest = values[values.length - 1]
    const over = threshold !== null && latest > threshold ? ', above ' + show(threshold) : ''
    const span = show(Math.min(...values)) + ' to ' + show(Math.max(...values))
    return '<td>' + show(latest) + over + '<div>' + span + '</div></td>'
  }
  const seen = metrics.filter(([key]) => devices.some(([, slot]) => within(key + '_' + slot).length > 0))
  const heads = seen.map(([, heading]) => '<th scope="col">' + esc(heading) + '</th>')
  const rows = devices.map(([label, slot]) => {
    const cells = seen.map(([key, , threshold]) => cell(within(key + '_' + slot), threshold))
    return '<tr><th scope="row">' + esc(label) + '</th>' + cells.join('') + '</tr>'
  })
  const seconds = Math.round((range.end - range.start) / 1000)
  table.text =
    '<table><caption>Latest figures, and from least to most of the ' + seconds + ' s shown (measured); ' +
    'renewed every 5 s, and not on Pause</caption>' +
    '<thead><tr><th scope="col">Node</th>' + heads.join('') + '</tr></thead>' +
    '<tbody>' + rows.join('') + '</tbody></table>'
  table.tags = [String(Date.now())]
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
