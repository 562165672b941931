"""The style sheet of the exported page: light, dark, narrow and on paper."""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1c1e21; --faint: #5d646c; --line: #d9dbd7;
  --accent: #0b6b80; --bar: #4c9fb0;
  --h0: #d9efd9; --h1: #d3eef2; --h2: #fbeeb8; --h3: #f3d3ef; --h4: #f9c6bd;
  --f0: #4f9a53; --f1: #2f96a6; --f2: #b58a00; --f3: #a24a9b; --f4: #c0392b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --ink: #e8e6e1; --faint: #a2a8ae; --line: #34383d;
    --accent: #6fc7da; --bar: #3d8797;
    --h0: #1f3a22; --h1: #173b42; --h2: #463a0d; --h3: #452042; --h4: #5a221c;
    --f0: #6dbf73; --f1: #58bccb; --f2: #d7b13c; --f3: #cf83c8; --f4: #ef7a6b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: anywhere;
}
main { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.35rem; margin: .5rem 0 1rem; }
h2.prompt { font-size: 1.25rem; margin: 2rem 0 .75rem; white-space: pre-wrap; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; color: var(--accent); }
h3 small { font-weight: normal; color: var(--faint); }
.key, .note, .seed, footer, figcaption { color: var(--faint); font-size: .875rem; }
.key, .note { margin: .25rem 0; }
.seed { margin: .75rem 0 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem .5rem; list-style: none;
  margin: 0; padding: 0; font-size: .875rem; }
.texts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
article { border: 1px solid var(--line); border-radius: .5rem;
  padding: .25rem .9rem .75rem; }
article h3 { margin-top: .5rem; }
article p { margin: .25rem 0 .5rem; }
.h0 { background: var(--h0); } .h1 { background: var(--h1); }
.h2 { background: var(--h2); } .h3 { background: var(--h3); }
.h4 { background: var(--h4); }
.h0, .h1, .h2, .h3, .h4 { border-radius: .2rem; }
.h3 { text-decoration: underline dotted; }
.h4 { text-decoration: underline; font-weight: 600; }
.same { color: var(--faint); }
.split::before { content: "\\25B8"; color: var(--accent); font-weight: 700; }
.split { font-weight: 700; }
.f0 { fill: var(--f0); } .f1 { fill: var(--f1); } .f2 { fill: var(--f2); }
.f3 { fill: var(--f3); } .f4 { fill: var(--f4); }
.spark { display: block; width: 100%; height: 2.5rem;
  border-bottom: 1px solid var(--line); }
.plots { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; display: grid; align-content: space-between; }
figcaption b { color: var(--ink); }
.bars { display: block; width: 100%; max-width: 30rem; }
.bars text { font: 12.5px system-ui, sans-serif; fill: var(--ink); }
.bars .value { text-anchor: end; font-variant-numeric: tabular-nums; }
.bar { fill: var(--bar); }
.span { stroke: var(--ink); stroke-width: 1.5; fill: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0;
  font-size: .875rem; }
dt { color: var(--faint); }
dd { margin: 0; font-family: ui-monospace, monospace; font-size: .8rem;
  align-self: center; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .5rem; }
@media print {
  body { font-size: 10pt; background: none; }
  main { max-width: none; padding: 0; }
  article, figure { break-inside: avoid; }
  .h0, .h1, .h2, .h3, .h4, .bar, .spark { print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
}
"""
