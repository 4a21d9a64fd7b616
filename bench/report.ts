// The report as one HTML page that needs nothing else: charts as inline SVG, light or dark as the reader's system is, each with
// the sentence that it shows, and every figure in tables below.
//
// Which charts a suite has depends on what it measured, not on its name.

import { castOf } from './page/cast.ts';
import { fairFigure } from './page/fair.ts';
import { distinct, type Figure, type Findings, formatFigure } from './page/figure.ts';
import { headlineChart, headlineFigure } from './page/headline.ts';
import { idleFigure } from './page/idle.ts';
import { latencyFigures, saturatedFigure } from './page/latency.ts';
import { limitFigure, memoryFigure } from './page/memory.ts';
import { rateFigures } from './page/rate.ts';
import { PAGE_STYLE } from './page/style.ts';
import { definitions, machineFacts, missing, selfChecks, suiteTables } from './page/tables.ts';
import type { Report, SuiteReport } from './results.ts';
import { escapeText } from './svg.ts';

function figuresOf(findings: Findings): Figure[] {
  const { results, idle } = findings;
  const figures: Figure[] = [];
  if (results.some(({ flooders }) => flooders > 0)) figures.push(fairFigure(findings));
  else if (results.some(({ rate }) => rate !== null)) figures.push(...latencyFigures(findings));
  else if (results.some(({ idleConnections }) => idleConnections > 0)) figures.push(idleFigure(findings));
  else if (results.length > 0) figures.push(...rateFigures(findings), saturatedFigure(findings));
  if (idle.length > 0) figures.push(memoryFigure(findings));
  if (idle.some(({ whyIncomplete }) => whyIncomplete !== null)) figures.push(limitFigure(findings));
  return figures;
}

function findingsOf({ results, idle }: Report, suite: SuiteReport): Findings {
  const own = results.filter((result) => result.suite === suite.name);
  const samples = idle.filter((sample) => sample.suite === suite.name);
  const cast = castOf(distinct([...own, ...samples].map(({ server }) => server)));
  return { suite, results: own, idle: samples, cast };
}

export function formatPage(report: Report): string {
  const { machine, suites } = report;
  const findings = suites.map((suite) => findingsOf(report, suite));
  const headline = headlineFigure(report);
  const sections = findings.map((own) => {
    const heading = `<h2 id="${escapeText(own.suite.name)}">${escapeText(own.suite.title)}</h2>`;
    return heading + figuresOf(own).map(formatFigure).join('\n');
  });
  const links = suites.map(({ name, title }) => `<a href="#${escapeText(name)}">${escapeText(title)}</a>`);
  const warning =
    '<p class="warning">This run is not complete: it was interrupted, or a server failed; what is missing is told <a href="#missing">below</a>.</p>';
  const title = suites.length === 1 ? suites[0]!.title : 'Event loops and threads, measured';
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>onewait: ${escapeText(title)}</title><style>${PAGE_STYLE}</style></head><body><main>
<h1>${escapeText(title)}</h1>
<p class="soft">${escapeText(`${machine.cpuModel}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${machine.node}, ${machine.date.slice(0, 10)}`)}</p>
${report.complete ? '' : warning}
${headline === null ? '' : formatFigure(headlineChart(headline))}
<p class="soft">Whiskers reach from the least to the greatest of single rounds. What is drawn hollow does not count, or is not to be ranked by.</p>
${suites.length > 1 ? `<nav>${links.join(' ')}</nav>` : ''}
${sections.join('\n')}
<h2>All figures</h2>
${findings
  .map((own) =>
    suiteTables(
      own,
      report.idle.filter(({ suite }) => suite === own.suite.name),
    ),
  )
  .join('\n')}
${selfChecks(report)}
${missing(report)}
<h2>Method and machine</h2>
${definitions(report.method)}
${definitions(machineFacts(machine))}
</main></body></html>
`;
}
