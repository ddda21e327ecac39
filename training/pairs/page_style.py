"""How the page of a dataset looks, by day and by night, wide and narrow."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #6b6862; --line: #e3e0da;
  --kept: #0f7b6c; --dropped: #b9b4aa; --mark: #b3261e; --wash: #e6f2f0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161615; --card: #1f1f1d; --ink: #ecebe7; --soft: #a19d95; --line: #35342f;
    --kept: #4cc3b0; --dropped: #5d5a54; --mark: #ff8a80; --wash: #1b302d;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 44px 0 14px; }
p { margin: 0 0 8px; }
.soft { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 20px 0 0; padding: 0; list-style: none; }
.facts li {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 16px;
  min-width: 112px;
}
.facts b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.triplets { display: grid; gap: 16px; }
article {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px; min-width: 0;
}
article h3 { font-size: 17px; margin: 0 0 6px; overflow-wrap: anywhere; }
article p { overflow-wrap: anywhere; }
.kind {
  font-size: 12px; font-weight: 500; color: var(--kept); background: var(--wash); border-radius: 99px;
  padding: 2px 9px; margin-left: 6px; white-space: nowrap; vertical-align: 2px;
}
.pairs {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 264px), 1fr)); gap: 16px;
  margin-top: 14px;
}
figure { margin: 0; min-width: 0; }
.pictures { display: flex; gap: 4px; position: relative; }
.pictures img, .pictures span {
  flex: 1 1 0; min-width: 0; width: 0; aspect-ratio: 1; object-fit: contain; background: var(--paper);
  border-radius: 6px;
}
.pictures img.mask {
  position: absolute; right: 6px; bottom: 6px; width: 22%; flex: none;
  border: 2px solid var(--card); border-radius: 6px;
}
.pictures span { display: grid; place-items: center; font-size: 12px; color: var(--soft); }
figcaption span { white-space: nowrap; }
figcaption { font-size: 12px; color: var(--soft); margin-top: 6px; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px 8px; }
.chart h3 { font-size: 14px; margin: 0 0 6px; font-weight: 600; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .dropped { fill: var(--dropped); }
svg .kept { fill: var(--kept); fill-opacity: .25; stroke: var(--kept); stroke-width: 1.5; stroke-linejoin: round; }
svg .axis { stroke: var(--line); stroke-width: 1; }
svg .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .marked { fill: var(--mark); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); margin: -6px 0 12px; }
.legend i {
  display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; background: var(--dropped);
}
.legend .k { background: var(--kept); }
.legend .m {
  background: none; border-radius: 0; height: 0; border-top: 2px dashed var(--mark); vertical-align: 4px;
}
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td {
  text-align: left; padding: 8px 14px; border-top: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere;
}
tr:first-child > * { border-top: 0; }
th { font-weight: 500; white-space: nowrap; color: var(--soft); font-size: 13px; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; width: 1%; }
td.bar { width: 34%; min-width: 70px; }
td.bar i {
  display: block; height: 10px; margin-top: 6px; min-width: 2px; border-radius: 3px;
  background: var(--dropped);
}
td.bar i.k { background: var(--kept); }
details { margin-top: 44px; }
summary { cursor: pointer; font-size: 18px; font-weight: 700; margin-bottom: 12px; }
code { font: 13px ui-monospace, monospace; }
@media (max-width: 560px) {
  main { padding: 22px 14px 48px; }
  .facts li { flex: 1 1 40%; }
  article { padding: 14px; }
  th, td { padding: 7px 10px; }
  td.bar { display: none; }
}
"""
