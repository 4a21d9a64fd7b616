// How the page looks: light or dark as the reader's system is, and on paper. The standalone picture has the charts' part of it.

import { COLOURS, type Role } from './cast.ts';

const FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif";

const colourRules = (side: 0 | 1): string =>
  (Object.keys(COLOURS) as Role[])
    .flatMap((role) => COLOURS[role].map((pair, i) => `.${role}${i}{--c:${pair[side]}}`))
    .join('');

const LIGHT = '--ink:#1b1f24;--soft:#57606a;--line:#e3e8ed;--axis:#8c959f;--page:#ffffff';
const DARK = '--ink:#e6edf3;--soft:#9aa5b1;--line:#2a313a;--axis:#6e7681;--page:#0f1318';

/** What charts need: all that an SVG is drawn with. */
export const CHART_STYLE: string = `
:root{color-scheme:light dark;${LIGHT}}${colourRules(0)}
@media screen and (prefers-color-scheme:dark){:root{${DARK}}${colourRules(1)}}
svg text{font:12.5px ${FONT};fill:var(--ink)}svg .soft{fill:var(--soft)}svg .tick{fill:var(--soft);font-size:11.5px}
svg .head{font-weight:600}svg .name.ours{font-weight:700}svg .name.peer{fill:var(--soft)}svg .end{text-anchor:end}
svg .title{font-size:17px;font-weight:650}
.cross line{stroke:var(--c);stroke-width:2}.missing{paint-order:stroke;stroke:var(--page);stroke-width:4px}.link{stroke:var(--c);stroke-width:2}
.paper{fill:var(--page)}.grid{stroke:var(--line)}.axis{stroke:var(--axis)}.reference{stroke:var(--ink);stroke-dasharray:3 3}
.curve{fill:none;stroke:var(--c);stroke-width:1.4;stroke-linejoin:round}.curve.ours{stroke-width:2.8}
.curve.floor{stroke-width:2;stroke-dasharray:6 3}.curve.threads{stroke-width:2;stroke-dasharray:2 2.5}
.curve.missed{stroke-width:1.2;stroke-dasharray:1 4;stroke-linecap:round}.leader{stroke:var(--c);opacity:.55}
.mark{fill:var(--c);stroke:var(--c);stroke-width:1.4;stroke-linejoin:round}.mark.hollow{fill:var(--page)}
.bar{fill:var(--c)}.bar.kernel{opacity:.4}.bar.hollow{fill:none;stroke:var(--c);opacity:1}
.whisker{stroke:var(--ink);stroke-width:1.2}.halo{stroke:var(--page);stroke-width:3.6}
`;

export const PAGE_STYLE: string = `${CHART_STYLE}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 ${FONT}}
main{max-width:900px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:27px;line-height:1.25;margin:0 0 6px}h2{font-size:21px;margin:56px 0 0;padding-top:14px;border-top:1px solid var(--axis)}
h3{font-size:16px;margin:30px 0 2px}h4{font-size:13.5px;margin:18px 0 4px;font-weight:600}
p{margin:2px 0 12px;max-width:96ch}.soft{color:var(--soft)}a{color:inherit}
nav{margin:20px 0 0;color:var(--soft)}nav a{margin-right:14px;white-space:nowrap}
.warning{border:1px solid #b35900;border-radius:6px;padding:8px 12px}
section{break-inside:avoid}svg{display:block;width:100%;height:auto;margin-top:8px}
.multiples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:12px 20px}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;margin:8px 0 0;padding:0;list-style:none;font-size:13px}
.legend li{display:flex;align-items:center;gap:6px}.legend .ours{font-weight:700}.legend svg{width:14px;height:14px;margin:0}
ul.words{font-size:13.5px;color:var(--soft);padding-left:20px}
.scroll{overflow-x:auto;margin-right:max(-220px,min(0px,calc((100% + 40px - 100vw)/2)))}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:11.5px}
th,td{padding:3px 5px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;font-size:13.5px}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:560px){dl{grid-template-columns:1fr}dd{margin-bottom:8px}}
@media print{main{max-width:none;padding:0}table{font-size:8.5px}.scroll{overflow:visible;margin:0}h2,h3,h4{break-after:avoid}nav{display:none}}
`;
