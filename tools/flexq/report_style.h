// The style sheet of the report: light and dark, one column on a phone. No fonts or images from
// elsewhere.
#pragma once

namespace flexq_tool {

inline constexpr char kReportStyle[] = R"css(
:root{--bg:#fff;--fg:#1b1f24;--soft:#5b6470;--line:#d9dee4;--card:#f5f7f9;--hue:25,98,178;--mark:#c2410c;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#12161b;--fg:#e6e9ed;--soft:#9aa4af;--line:#2c343d;--card:#1a2027;--hue:92,164,242;--mark:#fb923c}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1rem}
header p:first-child,.note,footer,.tile span{color:var(--soft);font-size:.875rem}
header p{margin:.25rem 0}
h1{font-size:1.5rem;line-height:1.25;margin:.25rem 0;overflow-wrap:anywhere}
h2{font-size:1.125rem;margin:2rem 0 .5rem}
p{margin:.5rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin-top:1rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem}
.tile b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}
.tile span{display:block;line-height:1.3}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}
thead th{color:var(--soft);font-size:.8125rem}
tr>th:first-child{text-align:left}
tr.chosen th,tr.chosen td{color:var(--mark);font-weight:700}
td.bar{width:22%;min-width:4rem}
td.bar i{display:block;height:.6rem;border-radius:.2rem;background:rgb(var(--hue));min-width:1px}
tr.chosen td.bar i{background:var(--mark)}
.heat{table-layout:fixed;min-width:20rem}
.heat th,.heat td{text-align:center;padding:.3rem .1rem}
.heat tr>th:first-child{text-align:center;width:2.75rem}
.heat td{border:2px solid var(--bg);background:rgba(var(--hue),calc(.06 + .94*var(--s)))}
.heat td b{display:block;line-height:1.2;font-weight:500}
.heat td small{display:block;font-size:.6875rem;line-height:1.2}
.heat td.b8{box-shadow:inset 0 0 0 2px var(--mark)}
.heat td.b8 b{font-weight:800}
.heat td.deep{color:#fff}
@media (prefers-color-scheme:dark){.heat td.mid,.heat td.deep{color:#0b0f14}}
svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line)}
.tick{fill:var(--soft);font-size:13px}
.label{fill:var(--fg);font-size:14px;font-weight:600}
.front{fill:none;stroke:rgb(var(--hue));stroke-width:2}
.dot{fill:rgb(var(--hue))}
.fixed{fill:var(--bg);stroke:var(--fg);stroke-width:2}
circle.chosen{fill:var(--mark)}
footer{margin:2rem 0 1rem}
@media (max-width:30rem){main{padding:.75rem}table{font-size:.875rem}th,td{padding:.3rem .15rem}tr>th:first-child,thead th{white-space:normal}.policies,.policies thead th{font-size:.75rem}.bar,.share{display:none}.tick,.label{font-size:20px}}
)css";

}  // namespace flexq_tool
