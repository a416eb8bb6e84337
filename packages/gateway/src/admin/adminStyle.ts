/** The style of the administrators' page beyond that of all pages: it is wide, and has tables. */
export const adminStyle = `
body { place-items: start center }
main.wide, main { max-width: 64rem }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px; justify-content: space-between }
header > span { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px }
nav { display: flex; flex-wrap: wrap; gap: 6px; margin: 16px 0 8px; border-bottom: 1px solid var(--line); padding-bottom: 10px }
nav button, td button, .row button, header button { width: auto; margin: 0; min-height: 40px; padding: 6px 14px }
nav button { background: none; color: var(--text); border-color: transparent }
nav button:hover { background: var(--glow); color: var(--text) }
nav button[aria-current] { background: var(--accent); color: var(--accent-text) }
td button { min-height: 36px; font-size: .875rem; background: none; color: var(--text); border-color: var(--line); display: inline-flex }
td button:hover { background: none; border-color: var(--accent); color: var(--accent) }
table { width: 100%; border-collapse: collapse; margin-top: 12px; font-size: .9375rem }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8125rem; padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line) }
tbody tr { border-bottom: 1px solid color-mix(in srgb, var(--line) 40%, transparent) }
td { padding: 9px 10px 9px 0; vertical-align: top; overflow-wrap: anywhere }
td > bdi { display: inline-block; max-width: 100%; overflow: clip }
#dialog-subject:empty { display: none }
#status:empty { border: 0; padding: 0; margin: 0 }
td.acts { display: flex; flex-wrap: wrap; gap: 6px }
form.row { display: flex; gap: 8px; margin-top: 10px } form.row input { min-height: 40px; padding: 6px 12px }
dialog { border: 0; border-radius: 16px; padding: 24px; max-width: 26rem; width: calc(100% - 32px); background: var(--card); color: var(--text); box-shadow: var(--shadow) }
dialog::backdrop { background: #0007 }
@media (max-width: 640px) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tr { display: block; padding: 10px 0; border-bottom: 1px solid var(--line) }
  td { display: block; border: 0; padding: 2px 0 }
  td > bdi { display: inline }
  td:empty { display: none }
  td[data-label]:not([data-label=""])::before { content: attr(data-label) ": "; color: var(--soft) }
}
`
