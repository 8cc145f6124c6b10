/**
 * The heatmap of an answer, live: it follows the answers of its kernel, stands still on Pause, and saves what it shows.
 *
 * It needs nothing of the kernel but the tokens that the front end gets anyway, so that all of it works while a cell runs.
 */

import * as React from 'react';

import { Heat, heatCsv, heatOf, meansOf } from './heat';
import { Band, HeatPicture, TOKENS } from './heatPicture';
import { isGenerating, nameOf, runsOn, shownModel, State } from './model';
import { mark as markOf } from './palette';
import { Origin, Swatch, useSlowly, useWidth } from './parts';
import { savePng, saveText } from './save';
import { cleanName, Trans } from './text';
import { OutputView, Plan, TokenEvent } from './types';
import { showLayers, showSeconds } from './units';

const REDRAW_MS = 250;

/** An answer whose time is shown. */
interface Subject {
  readonly model: string;
  readonly plan: Plan | null;
  readonly devices: ReadonlyArray<string>;
  readonly tokens: ReadonlyArray<TokenEvent>;
}

export interface HeatProps {
  readonly output: OutputView;
  readonly state: State;
  readonly live: boolean;
  readonly trans: Trans;
}

export function HeatView(props: HeatProps): React.ReactElement {
  const { output, state, live, trans } = props;
  const { generation } = state;
  const now = React.useMemo(
    () => subjectOf(output, state),
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the rest of the state changes twice a second
    [output, generation]
  );
  const latest = useSlowly(now, REDRAW_MS);
  const [held, hold] = React.useState<Subject | null>(null);
  const subject = held ?? latest;
  const heat = React.useMemo(() => heatOf(subject.tokens, subject.devices), [subject]);
  const own = generation?.request === output.answer?.stats.request;
  const moves = live && (output.follow || (own && isGenerating(state)));
  return (
    <section role="group" className="jp-ExoLab-heatView" aria-label={trans.__('Time by layer and token')}>
      <div className="jp-ExoLab-cardHead">
        <b>{cleanName(subject.model)}</b>
        <span className="jp-ExoLab-faint">
          {trans._n('time of %1 token', 'time of %1 tokens', heat.splits.length)}
          {heat.splits.length > TOKENS ? `, ${trans.__('the latest %1 drawn', TOKENS)}` : ''}
        </span>
        <Origin kind="measured" trans={trans} />
        {(moves || held !== null) && (
          <button
            type="button"
            className="jp-ExoLab-button"
            aria-pressed={held !== null}
            onClick={() => hold(held === null ? subject : null)}
          >
            {held === null ? trans.__('Pause') : trans.__('Go on')}
          </button>
        )}
      </div>
      {heat.splits.length === 0 ? (
        <p className="jp-ExoLab-hint">
          {trans.__(
            'No tokens yet: it needs an answer of two at least, since the first one\u2019s time is the prompt\u2019s.'
          )}
        </p>
      ) : (
        <Shown heat={heat} bands={bandsOf(heat, subject, state, trans)} trans={trans} />
      )}
    </section>
  );
}

/** The picture, its exports, and the means as a table. */
function Shown(props: { heat: Heat; bands: ReadonlyArray<Band>; trans: Trans }): React.ReactElement {
  const { heat, bands, trans } = props;
  const [box, width] = useWidth(760);
  const drawing = React.useRef<SVGSVGElement>(null);
  const [problem, complain] = React.useState('');
  const png = (): void => {
    if (drawing.current !== null) {
      savePng(drawing.current, 'exo-lab-heatmap.png').then(
        () => complain(''),
        (error: unknown) => complain(error instanceof Error ? error.message : String(error))
      );
    }
  };
  const csv = (): void =>
    saveText(
      heatCsv(
        heat,
        bands.map(band => band.name)
      ),
      'text/csv',
      'exo-lab-heatmap.csv'
    );
  return (
    <>
      <div ref={box} className="jp-ExoLab-scroll" role="group" tabIndex={0} aria-label={trans.__('Heatmap')}>
        <HeatPicture ref={drawing} heat={heat} bands={bands} width={width} trans={trans} />
      </div>
      <div className="jp-ExoLab-buttons">
        <button type="button" className="jp-ExoLab-button" onClick={csv}>
          {trans.__('Save as CSV')}
        </button>
        <button type="button" className="jp-ExoLab-button" onClick={png}>
          {trans.__('Save as PNG')}
        </button>
      </div>
      {problem !== '' && <div className="jp-ExoLab-refusal">{problem}</div>}
      <MeansTable heat={heat} bands={bands} trans={trans} />
      <p className="jp-ExoLab-hint">
        {trans.__(
          'A stage is measured as a whole: its layers share one figure. Beyond it: unpacking, choosing, sending. Between the stages: the wire, and waiting to be taken from it. Colours are strongest at the 95th percentile.'
        )}
      </p>
    </>
  );
}

function MeansTable(props: { heat: Heat; bands: ReadonlyArray<Band>; trans: Trans }): React.ReactElement {
  const { heat, bands, trans } = props;
  const means = meansOf(heat);
  return (
    <table className="jp-ExoLab-table">
      <caption className="jp-ExoLab-hidden">{trans.__('Mean time of a token')}</caption>
      <thead>
        <tr>
          <th scope="col">{trans.__('Mean of a token')}</th>
          <th scope="col">{trans.__('Computing')}</th>
          <th scope="col">{trans.__('Beyond it')}</th>
        </tr>
      </thead>
      <tbody>
        {bands.map((band, k) => (
          <tr key={k}>
            <th scope="row">
              <Swatch mark={band.mark} /> {band.name}
            </th>
            <td>{showSeconds(means.compute[k])}</td>
            <td>{showSeconds(means.queue[k])}</td>
          </tr>
        ))}
        <tr>
          <th scope="row">{trans.__('between the stages')}</th>
          <td />
          <td>{showSeconds(means.wire)}</td>
        </tr>
      </tbody>
    </table>
  );
}

/** The kernel's answer of now where it belongs here and is more than what came with the output; else the latter. */
function subjectOf(output: OutputView, state: State): Subject {
  const now = state.generation;
  const own = output.answer;
  const mine = now !== null && now.request === own?.stats.request;
  const wanted = output.follow || (mine && own?.stats.finish === null);
  if (now !== null && wanted && (!mine || now.tokens.length >= own.tokens.length)) {
    const shown = shownModel(state, now.model)?.plan ?? null;
    const plan = now.stats?.plan ?? (runsOn(now, shown) ? shown : null);
    return { model: now.model, plan, devices: now.devices, tokens: now.tokens };
  }
  return {
    model: own?.stats.model ?? '',
    plan: own?.stats.plan ?? null,
    devices: own?.stats.plan.devices ?? [],
    tokens: own?.tokens ?? []
  };
}

function bandsOf(heat: Heat, { plan }: Subject, state: State, trans: Trans): Band[] {
  return heat.devices.map((id, k) => {
    const shard = plan?.shards[plan.devices.indexOf(id)];
    const emulated = state.status?.nodes.find(node => node.device.id === id)?.device.emulated ?? '';
    const holds =
      shard === undefined
        ? trans.__('an earlier plan')
        : trans.__('layers %1', showLayers(shard.start, shard.end));
    return {
      mark: state.marks.get(id) ?? markOf(k),
      name: nameOf(state, id),
      holds: emulated === '' ? holds : `${holds}, ${trans.__('emulated')}`,
      layers: shard === undefined ? 1 : Math.max(1, shard.end - shard.start)
    };
  });
}
