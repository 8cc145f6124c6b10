/**
 * A view in a cell's output. Live while the notebook's kernel lives and has exo_lab loaded; else the picture of the
 * moment in which it was made. Without this extension, readers see the SVG or HTML in the same output.
 */

import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import { Follower } from './follower';
import { GenerationView } from './generationView';
import { HeatView } from './heatView';
import { ClusterModel, EMPTY, reduce, State } from './model';
import { useSignal } from './parts';
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
    this.update(); // only now is it known in which notebook it stands
  }

  protected override render(): React.ReactElement | null {
    if (this._output === null) {
      return null;
    }
    const connection = this._follower.connectionAt(this.node);
    void connection?.link.attach();
    return <Shown output={this._output} connection={connection} trans={this._trans} />;
  }

  private _output: OutputView | null = null;
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

const nothing = new ClusterModel();

interface ShownProps {
  readonly output: OutputView;
  readonly connection: Connection | null;
  readonly trans: Trans;
}

function Shown(props: ShownProps): React.ReactElement {
  const { output, connection, trans } = props;
  const model = connection?.link.model ?? nothing;
  useSignal(model.changed);
  const live = connection !== null && model.state.phase === 'connected' && model.state.mismatch === null;
  const [past] = React.useState<State>(() => reduce(EMPTY, output.snapshot));
  const state = live ? model.state : past;
  return (
    <div className="jp-ExoLab-panel">
      {!live && (
        <p className="jp-ExoLab-hint">{trans.__('A picture of the past: the kernel is not connected.')}</p>
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
