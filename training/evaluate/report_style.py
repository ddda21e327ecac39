"""How the report of an evaluation looks, by day and by night, wide and narrow."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #6b6862; --line: #e3e0da; --best: #e6f2f0;
  --c0: #0f7b6c; --c1: #c2571a; --c2: #3f5fb5; --c3: #8a4fa3; --c4: #7a6a00; --c5: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161615; --card: #1f1f1d; --ink: #ecebe7; --soft: #a19d95; --line: #35342f; --best: #1b302d;
    --c0: #4cc3b0; --c1: #f0955c; --c2: #8fa8f0; --c3: #cf9be6; --c4: #d6c64d; --c5: #ff8a80;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 44px 0 14px; }
h3 { font-size: 15px; margin: 0 0 8px; }
p { margin: 0 0 8px; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; min-width: 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .name { fill: var(--ink); font-size: 13px; }
svg .at { font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
svg .band { fill: var(--c); opacity: .16; }
svg .error { stroke: var(--c); stroke-width: 1.5; opacity: .45; }
svg circle { fill: var(--c); }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 0 0 10px; }
.legend i {
  display: inline-block; width: 12px; height: 12px; border-radius: 99px; margin-right: 6px; vertical-align: -1px;
  background: var(--c);
}
.scroll + p, .charts + p { margin-top: 10px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; padding: 12px 14px 4px; font-weight: 600; }
th, td { text-align: left; padding: 8px 12px; border-top: 1px solid var(--line); white-space: nowrap; }
tr:first-child > * { border-top: 0; }
th { font-weight: 500; color: var(--soft); font-size: 13px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td small { color: var(--soft); }
td.best { background: var(--best); font-weight: 600; }
.heat th + th { text-align: center; }
.heat td {
  background: color-mix(in srgb, var(--c0) calc(var(--share) * 55%), transparent); text-align: center;
}
.edits { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
figure { margin: 0; min-width: 0; }
.pictures { display: flex; gap: 4px; }
.pictures img { flex: 1 1 0; min-width: 0; width: 0; aspect-ratio: 1; object-fit: contain; border-radius: 6px; }
.pixels img { image-rendering: pixelated; }
figcaption { font-size: 13px; margin-top: 6px; overflow-wrap: anywhere; }
figcaption small { display: block; color: var(--soft); font-variant-numeric: tabular-nums; }
details { margin-top: 44px; }
summary { cursor: pointer; font-size: 18px; font-weight: 700; margin-bottom: 12px; }
code, pre { font: 13px ui-monospace, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: 14px; }
@media (max-width: 560px) { main { padding: 22px 14px 48px; } th, td { padding: 7px 9px; } }
"""
