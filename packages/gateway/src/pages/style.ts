/**
 * The style sheet of the pages.
 */
export const style = `
:root {
  color-scheme: light dark;
  --ground: #eef3f0; --glow: #d9e8e0; --card: #ffffff; --text: #17211d; --soft: #55645d; --line: #84948c;
  --field: #ffffff; --accent: #1f6f54; --accent-text: #ffffff; --hover: #185a44; --error: #a3231f; --error-ground: #fdeeed;
  --shadow: 0 1px 2px #17211d14, 0 12px 40px #17211d1f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #101614; --glow: #17261f; --card: #1a221f; --text: #e9efec; --soft: #a5b4ad; --line: #6f827a;
    --field: #121917; --accent: #58c79c; --accent-text: #0b1a14; --hover: #74d6b0; --error: #ff9d96; --error-ground: #3a1d1b;
    --shadow: 0 1px 2px #0006, 0 12px 40px #0008;
  }
}
* { box-sizing: border-box }
[hidden] { display: none !important }
html { -webkit-text-size-adjust: 100% }
body {
  margin: 0; min-height: 100vh; min-height: 100dvh; display: grid; place-items: center; padding: 24px 16px;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif;
  color: var(--text); background: radial-gradient(120% 80% at 50% -10%, var(--glow), var(--ground) 70%) fixed;
}
main {
  width: 100%; max-width: 25rem; background: var(--card); border-radius: 18px; padding: 32px 32px 28px;
  box-shadow: var(--shadow);
}
.mark { width: 44px; height: 44px; display: block; margin-bottom: 18px }
.mark rect { fill: var(--accent) }
.mark path { fill: none; stroke: var(--accent-text); stroke-width: 2.6; stroke-linecap: round; stroke-linejoin: round }
.mark circle { fill: var(--accent-text) }
h1 { font-size: 1.45rem; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 4px; overflow-wrap: anywhere }
h1:focus { outline: none }
p { margin: 8px 0 }
.soft { color: var(--soft) }
.small { font-size: .875rem }
.step { color: var(--soft); font-size: .875rem; margin: 0 0 2px }
.note { border-left: 3px solid var(--accent); padding: 2px 0 2px 12px; margin: 14px 0; font-size: .9375rem; overflow-wrap: anywhere }
form { margin-top: 20px }
label { display: block; font-weight: 600; font-size: .9375rem; margin: 16px 0 6px }
label .soft { font-weight: 400 }
input {
  width: 100%; font: inherit; color: inherit; background: var(--field); border: 1px solid var(--line); border-radius: 10px;
  padding: 11px 13px; min-height: 48px;
}
input.code { font-size: 1.5rem; letter-spacing: .14em; font-variant-numeric: tabular-nums; text-align: center }
input[aria-invalid=true] { border-color: var(--error) }
button, a.button {
  display: flex; align-items: center; justify-content: center; gap: 10px; width: 100%; min-height: 48px; margin-top: 22px;
  padding: 11px 16px; font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer;
  border: 1px solid transparent; border-radius: 10px; background: var(--accent); color: var(--accent-text);
}
button:hover, a.button:hover { background: var(--hover) }
button.plain, a.button.plain { background: none; color: var(--text); border-color: var(--line); margin-top: 10px }
button.plain:hover, a.button.plain:hover { border-color: var(--accent); color: var(--accent) }
button.link {
  display: inline; width: auto; min-height: 0; margin: 14px 0 0; padding: 6px 0; background: none; border: 0;
  color: var(--accent); font-weight: 500; text-decoration: underline; text-underline-offset: 3px;
}
button:disabled { opacity: .6; cursor: default }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
input:focus-visible { outline-offset: 0; border-color: transparent }
.links { display: flex; flex-wrap: wrap; column-gap: 24px }
ul.choices { list-style: none; padding: 0; margin: 18px 0 0 }
ul.choices button, ul.choices a.button { margin-top: 10px }
.error {
  margin: 16px 0 0; padding: 10px 14px; border-radius: 10px; color: var(--error); background: var(--error-ground);
  font-size: .9375rem; overflow-wrap: anywhere;
}
.error:empty { display: none }
.quiet { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
.wait { display: flex; align-items: center; gap: 12px; margin-top: 18px; color: var(--soft) }
.wait::before {
  content: ""; width: 18px; height: 18px; flex: none; border-radius: 50%; border: 2.5px solid var(--line);
  border-top-color: var(--accent); animation: turn 1s linear infinite;
}
@keyframes turn { to { transform: rotate(1turn) } }
@media (prefers-reduced-motion: reduce) { .wait::before { animation-duration: 4s } }
dl { display: grid; grid-template-columns: auto 1fr; gap: 4px 14px; margin: 18px 0 0; font-size: .9375rem }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 460px) {
  body { padding: 0; place-items: stretch; background: var(--card) }
  main { max-width: none; border-radius: 0; box-shadow: none; padding: 28px 20px }
}
`
