/**
 * A view in a cell's output. Live while the notebook's kernel lives and has exo_lab loaded; else the picture of the
 * moment in which it was made. Without this extension, readers see the SVG or HTML in the same output.
 */

import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import type { Follower, Host } from './follower';
import { GenerationView } from './generationView';
import { HeatView } from './heatView';
import { ClusterModel, EMPTY, reduce, State } from './model';
import { Shown, useFrames } from './parts';
import { PlacementStill, PlacementView } from './placementView';
import { Connection } from './pool';
import { Trans } from './text';
import { TopologyView } from './topologyView';
import { OutputView, VIEW_MIME } from './types';

export class OutputWidget extends ReactWidget implements IRenderMime.IRenderer {
  constructor(
    private readonly _follower: Follower,
    private readonly _trans: Trans
  ) {
    super();
    this.addClass('jp-ExoLab');
    this.addClass('jp-ExoLab-output');
    this.node.addEventListener('focusin', keepKeys);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this._output = model.data[VIEW_MIME] as unknown as OutputView;
    this.update();
    return Promise.resolve();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._enter(); // only now is it known in which notebook it stands
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.update();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.update();
  }

  protected override onBeforeDetach(message: Message): void {
    this._leave();
    super.onBeforeDetach(message);
  }

  protected override render(): React.ReactElement | null {
    if (this._output === null) {
      return null;
    }
    return (
      <Shown.Provider value={this.isVisible}>
        <View
          output={this._output}
          connection={this._connection}
          outside={this._host === null}
          trans={this._trans}
        />
      </Shown.Provider>
    );
  }

  /** Follow the kernel of the notebook or console that it stands in; it may get one later, and another one after that. */
  private _enter(): void {
    const host = this._follower.hostAt(this.node);
    this._host = host;
    if (host === null) {
      this._follower.changed.connect(this._followedChanged, this);
      this._followedChanged();
    } else {
      host.sessionContext.kernelChanged.connect(this._kernelChanged, this);
      this._kernelChanged();
    }
  }

  private _leave(): void {
    this._host?.sessionContext.kernelChanged.disconnect(this._kernelChanged, this);
    this._follower.changed.disconnect(this._followedChanged, this);
    this._host = this._connection = null;
  }

  private _kernelChanged(): void {
    this._connection = this._host && this._follower.connectionOf(this._host);
    void this._connection?.link.attach();
    this.update();
  }

  /** Outside of a notebook (a view that was made of an output): the kernel of the output, once a person was in it. */
  private _followedChanged(): void {
    const known = this._connection;
    if (known === null || known.link.isDisposed || !isFrom(this._output, known)) {
      this._connection = this._follower.current;
      this.update();
    }
  }

  private _output: OutputView | null = null;
  private _host: Host | null = null;
  private _connection: Connection | null = null;
}

/**
 * In command mode the notebook takes arrows and Enter for itself, also from what has the focus in an output, unless the
 * focused element itself says otherwise.
 */
function keepKeys(event: FocusEvent): void {
  if (event.target instanceof Element) {
    event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
  }
}

/** Was an output made by the kernel of a connection, as the node that it is now? */
function isFrom(output: OutputView | null, connection: Connection): boolean {
  const node = connection.link.model.state.status?.node_id;
  return node !== undefined && node === output?.snapshot.status?.node_id;
}

const nothing = new ClusterModel();

interface ViewProps {
  readonly output: OutputView;
  readonly connection: Connection | null;
  /** It stands in no notebook and no console: only the kernel that made it is its own. */
  readonly outside: boolean;
  readonly trans: Trans;
}

function View(props: ViewProps): React.ReactElement {
  const { output, connection, outside, trans } = props;
  const model = connection?.link.model ?? nothing;
  useFrames(model.changed);
  const connected = model.state.phase === 'connected' && model.state.mismatch === null;
  const live = connection !== null && connected && (!outside || isFrom(output, connection));
  const [past] = React.useState<State>(() => reduce(EMPTY, output.snapshot));
  const state = live ? model.state : past;
  return (
    <div className="jp-ExoLab-panel">
      {!live && (
        <p className="jp-ExoLab-hint">
          {outside
            ? trans.__(
                'A picture of the past: outside of its notebook it moves once you are in that notebook.'
              )
            : trans.__('A picture of the past: the kernel is not connected.')}
        </p>
      )}
      {output.view === 'heatmap' && <HeatView output={output} state={state} live={live} trans={trans} />}
      {output.view === 'topology' && <TopologyView state={state} trans={trans} />}
      {output.view === 'generation' && live && (
        <GenerationView state={state} trans={trans} stop={() => void connection.link.stop()} />
      )}
      {output.view === 'placement' && live && (
        <PlacementView tuning={connection.tuning} state={state} trans={trans} />
      )}
      {output.view === 'placement' && !live && <PlacementStill state={state} trans={trans} />}
      {output.view === 'generation' && !live && <TopologyView state={state} trans={trans} />}
    </div>
  );
}
