/** A device's card, and the table that says what the picture shows. */

import * as React from 'react';

import { stageSeconds, State } from './model';
import { mark as markOf } from './palette';
import { Origin, Swatch } from './parts';
import { Place } from './ring';
import { clean, cleanName, Trans } from './text';
import { describe, heldText, linkWords, memoryText } from './topologyWords';
import { Plan } from './types';
import { showSeconds } from './units';

export function Card(props: {
  place: Place;
  state: State;
  plan: Plan | null;
  trans: Trans;
  close: () => void;
}): React.ReactElement {
  const { place, state, plan, trans } = props;
  const { node } = place;
  const device = node.device;
  const stage = place.stage;
  const shard = plan === null || stage === null ? null : plan.shards[stage];
  const compute = stageSeconds(state, plan).get(device.id);
  const flops = [
    device.flops.fp32 > 0 ? `${device.flops.fp32.toFixed(1)} fp32` : '',
    device.flops.fp16 > 0 ? `${device.flops.fp16.toFixed(1)} fp16` : '',
    device.flops.int8 > 0 ? `${device.flops.int8.toFixed(1)} int8` : ''
  ].filter(text => text !== '');
  const rows: (readonly [string, React.ReactNode])[] = [
    [trans.__('Model'), clean(device.model, 80)],
    [trans.__('Chip'), clean(device.chip, 80)],
    [trans.__('Memory'), memoryText(place, trans)],
    [trans.__('Peak TFLOPS'), flops.join(' \u00b7 ')],
    [trans.__('Engines'), device.engines.map(engine => clean(engine, 20)).join(', ')],
    [trans.__('Layers held'), shard === null ? trans.__('none') : heldText(shard, stage ?? 0, trans)],
    [
      trans.__('Time per token'),
      compute === undefined ? (
        ''
      ) : (
        <>
          {showSeconds(compute)} <Origin kind="measured" trans={trans} />
        </>
      )
    ],
    [trans.__('Temperature'), node.temperature_c === null ? '' : `${Math.round(node.temperature_c)} °C`],
    [trans.__('Latency from here'), node.latency_s === null ? '' : showSeconds(node.latency_s)],
    [trans.__('Address'), clean(node.address, 80)],
    [trans.__('Found by'), clean(node.how_found, 60)],
    [trans.__('Emulated'), clean(device.emulated, 120)]
  ];
  const name = cleanName(device.name);
  return (
    <div className="jp-ExoLab-card" role="group" aria-label={trans.__('About %1', name)}>
      <div className="jp-ExoLab-cardHead">
        <Swatch mark={state.marks.get(device.id) ?? markOf(0)} emulated={device.emulated !== ''} />
        <b>{name}</b>
        <button type="button" className="jp-ExoLab-link" onClick={props.close}>
          {trans.__('Close')}
        </button>
      </div>
      <dl>
        {rows
          .filter(([, value]) => value !== '')
          .map(([label, value]) => (
            <React.Fragment key={label}>
              <dt>{label}</dt>
              <dd>{value}</dd>
            </React.Fragment>
          ))}
      </dl>
    </div>
  );
}

/** The same facts as the picture, for those who do not see it, or want to copy them. */
export function DeviceTable(props: {
  state: State;
  plan: Plan | null;
  places: ReadonlyArray<Place>;
  trans: Trans;
}): React.ReactElement {
  const { state, plan, places, trans } = props;
  const columns = [
    trans.__('Device'),
    trans.__('State'),
    trans.__('Load'),
    trans.__('Memory'),
    trans.__('Holds'),
    trans.__('Links')
  ];
  return (
    <table className="jp-ExoLab-table">
      <caption className="jp-ExoLab-hidden">{describe(state, plan, trans)}</caption>
      <thead>
        <tr>
          {columns.map(column => (
            <th key={column} scope="col">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {places.map((place, i) => {
          const { node, stage } = place;
          const id = node.device.id;
          const shard = plan === null || stage === null ? null : plan.shards[stage];
          const links = state.links
            .filter(link => link.a === id || link.b === id)
            .map(link => {
              const other = link.a === id ? link.b : link.a;
              const name =
                state.status?.nodes.find(one => one.device.id === other)?.device.name ?? other.slice(0, 8);
              return `${cleanName(name)}: ${linkWords(link, trans).join(', ')}`;
            });
          const states = {
            alive: trans.__('alive'),
            suspect: trans.__('does not answer'),
            lost: trans.__('lost')
          };
          const emulated = node.device.emulated === '' ? '' : `, ${trans.__('emulated')}`;
          return (
            <tr key={id}>
              <th scope="row">
                <Swatch mark={state.marks.get(id) ?? markOf(i)} emulated={emulated !== ''} />{' '}
                {cleanName(node.device.name)}
                {node.is_self ? ` (${trans.__('this kernel')})` : ''}
              </th>
              <td>
                {states[node.liveness]}
                {emulated}
              </td>
              <td>{node.load === null ? '' : `${Math.round(node.load * 100)} %`}</td>
              <td>{memoryText(place, trans)}</td>
              <td>{shard === null ? '' : heldText(shard, stage ?? 0, trans)}</td>
              <td>
                {links.map(text => (
                  <div key={text}>{text}</div>
                ))}
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
