/** The status bar's item: nodes, model, tokens a second, alerts. Hidden while the followed kernel is in no cluster. */

import { ReactWidget } from '@jupyterlab/ui-components';
import { ISignal, Signal } from '@lumino/signaling';
import * as React from 'react';

import { Follower } from './follower';
import { ClusterModel } from './model';
import { statusText } from './statusText';
import { Trans } from './text';

export class StatusItem extends ReactWidget {
  constructor(
    private readonly _follower: Follower,
    private readonly _trans: Trans,
    private readonly _open: () => void
  ) {
    super();
    _follower.changed.connect(this._follow, this);
    this._follow();
  }

  get isActive(): boolean {
    return this._model?.state.phase === 'connected';
  }

  get activeStateChanged(): ISignal<this, void> {
    return this._activeStateChanged;
  }

  override dispose(): void {
    this._follower.changed.disconnect(this._follow, this);
    this._model?.changed.disconnect(this._update, this);
    super.dispose();
  }

  protected override render(): React.ReactElement | null {
    const state = this._model?.state;
    return state === undefined || state.phase !== 'connected' ? null : (
      <button
        type="button"
        className="jp-ExoLab-status"
        onClick={this._open}
        title={this._trans.__('The cluster that this kernel is in')}
      >
        {statusText(state, this._trans)}
      </button>
    );
  }

  private _follow(): void {
    this._model?.changed.disconnect(this._update, this);
    this._model = this._follower.current?.link.model ?? null;
    this._model?.changed.connect(this._update, this);
    this._update();
  }

  private _update(): void {
    this.update();
    this._activeStateChanged.emit();
  }

  private _model: ClusterModel | null = null;
  private readonly _activeStateChanged = new Signal<this, void>(this);
}
