/** The side panel's and the dashboard's contents: what there is to see, or what to do when there is nothing yet. */

import * as React from 'react';

import { AlertsView } from './alertsView';
import { GenerationView } from './generationView';
import { livingNodes, State } from './model';
import { useFrames } from './parts';
import { PlacementView } from './placementView';
import { ServerView } from './serverView';
import type { ServerWatch } from './serverWatch';
import { clean, cleanName, Trans } from './text';
import { TopologyView } from './topologyView';
import type { Connection } from './pool';

/** What a person can do from the panel; the shell around it knows how. */
export interface Actions {
  /** Insert a cell with `%exo connect` into the active notebook, and run it. */
  readonly connect: () => void;
  /** Look again whether exo_lab is loaded in the kernel. */
  readonly look: () => void;
  /** Insert a cell with this code, without running it. */
  readonly insert: (code: string) => void;
  readonly openDashboard: (() => void) | null;
}

export interface PanelProps {
  readonly connection: Connection | null;
  /** What is known without a kernel; shown where the panel is empty. */
  readonly server?: ServerWatch | null;
  readonly actions: Actions;
  readonly trans: Trans;
  /** Wide: side by side, for the main area. */
  readonly wide?: boolean;
}

export function PanelView(props: PanelProps): React.ReactElement {
  const { connection, trans, wide = false } = props;
  return (
    <div className={wide ? 'jp-ExoLab-panel jp-mod-wide' : 'jp-ExoLab-panel'}>
      {connection === null ? (
        <Empty
          phase="no-kernel"
          subject=""
          language=""
          server={props.server}
          actions={props.actions}
          trans={trans}
        />
      ) : (
        <Connected {...props} connection={connection} key={connection.link.kernel.id} />
      )}
    </div>
  );
}

function Connected(props: PanelProps & { connection: Connection }): React.ReactElement {
  const { connection, actions, trans } = props;
  useFrames(connection.link.model.changed);
  const state = connection.link.model.state;
  if (state.phase !== 'connected') {
    return (
      <Empty
        phase={state.phase}
        subject={state.subject}
        language={state.language}
        server={props.server}
        actions={actions}
        trans={trans}
      />
    );
  }
  if (state.mismatch !== null) {
    return (
      <div className="jp-ExoLab-empty">
        <p>
          {trans.__(
            'The kernel has %1, which speaks another version of the panel’s protocol (%2). Install the same exo_lab for JupyterLab and for the kernel, then restart both.',
            clean(state.software, 60),
            state.mismatch
          )}
        </p>
      </div>
    );
  }
  return (
    <>
      <Summary state={state} actions={actions} trans={trans} />
      {state.status !== null && (
        <AlertsView
          status={state.status}
          trans={trans}
          acknowledge={alert => connection.link.ask({ type: 'acknowledge-alert', alert })}
        />
      )}
      <div className="jp-ExoLab-columns">
        <div>
          <TopologyView state={state} trans={trans} plan={connection.tuning.chosen?.plan ?? null} />
          <GenerationView state={state} trans={trans} stop={() => void connection.link.stop()} />
        </div>
        <div>
          <PlacementView tuning={connection.tuning} state={state} trans={trans} />
        </div>
      </div>
    </>
  );
}

function Summary(props: { state: State; actions: Actions; trans: Trans }): React.ReactElement {
  const { state, actions, trans } = props;
  const status = state.status;
  const emulated = livingNodes(state).filter(node => node.device.emulated !== '').length;
  const refused = Object.values(status?.refused ?? {}).reduce((sum, count) => sum + count, 0);
  return (
    <div className="jp-ExoLab-summary">
      <div>
        <b>{cleanName(status?.name ?? '')}</b>{' '}
        <span className="jp-ExoLab-faint">
          {trans._n('%1 node', '%1 nodes', livingNodes(state).length)}
          {` \u00b7 ${clean(status?.bind ?? '', 40)}`}
          {refused > 0 ? ` \u00b7 ${trans.__('%1 messages refused', refused)}` : ''}
        </span>
        {emulated > 0 && (
          <>
            {' '}
            <span className="jp-ExoLab-origin jp-mod-emulated">{trans.__('%1 emulated', emulated)}</span>
          </>
        )}{' '}
        {actions.openDashboard !== null && (
          <button type="button" className="jp-ExoLab-link" onClick={actions.openDashboard}>
            {trans.__('Open the dashboard')}
          </button>
        )}
      </div>
      {(status?.problems ?? []).map(text => (
        <div key={text} className="jp-ExoLab-refusal">
          {clean(text)}
        </div>
      ))}
    </div>
  );
}

interface EmptyProps {
  readonly phase: State['phase'];
  readonly subject: string;
  readonly language: string;
  readonly server?: ServerWatch | null;
  readonly actions: Actions;
  readonly trans: Trans;
}

/** Nothing to see yet: why, what to do, and what is there already. */
export function Empty(props: EmptyProps): React.ReactElement {
  const { server = null, trans } = props;
  return (
    <>
      <Why {...props} />
      {server !== null && <ServerView server={server} trans={trans} />}
    </>
  );
}

function Why(props: EmptyProps): React.ReactElement {
  const { phase, actions, trans } = props;
  const subject = cleanName(props.subject);
  const connect = (
    <button type="button" className="jp-ExoLab-button jp-mod-accept" onClick={actions.connect}>
      {trans.__('Make this kernel a node')}
    </button>
  );
  const look = (
    <button type="button" className="jp-ExoLab-link" onClick={actions.look}>
      {trans.__('Look again')}
    </button>
  );
  const does = (
    <p className="jp-ExoLab-faint">
      {trans.__('Adds a cell with %exo connect to the notebook, and runs it.')}
    </p>
  );
  switch (phase) {
    case 'no-kernel':
      return (
        <Box title={trans.__('No kernel')}>
          <p>
            {trans.__(
              'Open a notebook with a Python kernel: this panel follows the notebook that you are in.'
            )}
          </p>
        </Box>
      );
    case 'other-language':
      return (
        <Box title={subject}>
          <p>
            {trans.__(
              'Its kernel runs %1. Nodes are Python kernels: switch to a notebook with one.',
              clean(props.language, 40)
            )}
          </p>
        </Box>
      );
    case 'connecting':
      return (
        <Box title={subject}>
          <p>
            {trans.__(
              'Asking the kernel about its cluster. While a cell runs, this may take until it is done.'
            )}
          </p>
          {look}
        </Box>
      );
    case 'restarting':
      return (
        <Box title={subject}>
          <p>{trans.__('The kernel restarts; it has left the cluster.')}</p>
        </Box>
      );
    case 'dead':
      return (
        <Box title={subject}>
          <p>{trans.__('The kernel is dead. Restart it from the Kernel menu.')}</p>
        </Box>
      );
    case 'not-a-node':
      return (
        <Box title={subject}>
          <p>{trans.__('exo_lab is loaded in this kernel, and the kernel is in no cluster yet.')}</p>
          {connect}
          {does}
        </Box>
      );
    default:
      return (
        <Box title={subject}>
          <p>{trans.__('This kernel is in no cluster yet.')}</p>
          {connect}
          {does}
          <p className="jp-ExoLab-faint">
            {trans.__(
              'If the cell says that there is no module named exo_lab, the kernel’s Python does not have it: run %pip install exo-lab in a cell, and try again.'
            )}
          </p>
          {look}
        </Box>
      );
  }
}

function Box(props: { title: string; children: React.ReactNode }): React.ReactElement {
  return (
    <div className="jp-ExoLab-empty">
      <h2>{props.title}</h2>
      {props.children}
    </div>
  );
}
