/** What is there already, beside an empty panel: nodes that this machine knows, and models that it has. */

import * as React from 'react';

import { Shown, useSignal } from './parts';
import type { ServerWatch } from './serverWatch';
import { clean, cleanName, Trans } from './text';
import { KnownNode } from './types';
import { showBytes } from './units';

const SHOWN = 8;

export function ServerView(props: { server: ServerWatch; trans: Trans }): React.ReactElement | null {
  const { server, trans } = props;
  const shown = React.useContext(Shown);
  React.useEffect(() => (shown ? server.watch() : undefined), [server, shown]);
  useSignal(server.changed);
  const facts = server.facts;
  if (facts === null) {
    return null;
  }
  const { nodes, problems } = facts.nodes;
  const { models, fetchable } = facts.models;
  return (
    <section className="jp-ExoLab-known" aria-label={trans.__('What this machine knows')}>
      <h3>{trans.__('Known nodes')}</h3>
      {nodes.length === 0 ? (
        <p className="jp-ExoLab-faint">
          {trans.__('None runs on this machine, and no peers file names one.')}
        </p>
      ) : (
        <ul>
          {nodes.slice(0, SHOWN).map(node => (
            <li key={`${node.source} ${node.name} ${node.address}`}>
              <b>{cleanName(node.name)}</b> <span className="jp-ExoLab-faint">{detail(node, trans)}</span>
            </li>
          ))}
          <More count={nodes.length - SHOWN} trans={trans} />
        </ul>
      )}
      {problems.map(text => (
        <p key={text} className="jp-ExoLab-refusal">
          {clean(text)}
        </p>
      ))}
      <h3>{trans.__('Models on this machine')}</h3>
      {models.length === 0 ? (
        <p className="jp-ExoLab-faint">
          {trans.__('None yet. %exo load fetches one; it knows %1.', fetchable.map(cleanName).join(', '))}
        </p>
      ) : (
        <ul>
          {models.slice(0, SHOWN).map(model => (
            <li key={model.name}>
              <b>{cleanName(model.name)}</b>{' '}
              <span className="jp-ExoLab-faint">
                {[showBytes(model.size_bytes), clean(model.about, 80)]
                  .filter(text => text !== '')
                  .join(' \u00b7 ')}
              </span>
            </li>
          ))}
          <More count={models.length - SHOWN} trans={trans} />
        </ul>
      )}
    </section>
  );
}

function More(props: { count: number; trans: Trans }): React.ReactElement | null {
  return props.count > 0 ? (
    <li className="jp-ExoLab-faint">{props.trans.__('and %1 more', props.count)}</li>
  ) : null;
}

function detail(node: KnownNode, trans: Trans): string {
  const state = node.running === true ? trans.__('running') : trans.__('not asked yet');
  return [clean(node.address, 60), state, clean(node.source, 60)].join(' \u00b7 ');
}
