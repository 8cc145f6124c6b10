/**
 * Live charts in a cell's output: the kernel's own Bokeh widget, as soon as this page has BokehJS and the kernel still has
 * the widget; else the picture in the same output, and why it is one.
 */

import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { Kernel } from '@jupyterlab/services';
import type { Message } from '@lumino/messaging';
import { Panel, Widget } from '@lumino/widgets';

import type { BokehJs } from './bokehJs';
import type { Follower, Host } from './follower';
import { Trans } from './text';
import { CHARTS_MIME, LiveCharts } from './types';

const WIDGET_MIME = 'application/vnd.jupyter.widget-view+json';

export class ChartsOutput extends Panel implements IRenderMime.IRenderer {
  constructor(
    private readonly _follower: Follower,
    private readonly _bokeh: BokehJs,
    private readonly _registry: IRenderMimeRegistry,
    private readonly _trans: Trans
  ) {
    super();
    this.addClass('jp-ExoLab');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this._model = model;
    if (this.isAttached) {
      await this._show();
    }
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._host = this._follower.hostAt(this.node);
    this._host?.sessionContext.kernelChanged.connect(this._show, this);
    if (!this._live) {
      void this._show();
    }
  }

  protected override onBeforeDetach(message: Message): void {
    this._host?.sessionContext.kernelChanged.disconnect(this._show, this);
    super.onBeforeDetach(message);
  }

  private async _show(): Promise<void> {
    const model = this._model;
    if (model === null) {
      return;
    }
    this._turn += 1;
    const turn = this._turn;
    this._live = false;
    if (!this._bokeh.here) {
      await this._put(this._registry, 'text/html', '');
    }
    let reason = this._trans.__('A picture of the past: the kernel that drew it is gone.');
    const home = await this._home(model);
    try {
      if (home !== null) {
        await this._bokeh.load((model.data[CHARTS_MIME] as unknown as LiveCharts).bokeh);
        if (turn === this._turn && !this.isDisposed) {
          this._live = true;
          await this._put(this._follower.rendermimeOf(home), WIDGET_MIME, '');
        }
        return;
      }
    } catch (error) {
      this._live = false;
      const problem = error instanceof Error ? error.message : String(error);
      reason = this._trans.__('A picture: %1. Run the cell again for live charts.', problem);
    }
    if (turn === this._turn && !this.isDisposed) {
      await this._put(this._registry, 'text/html', reason);
    }
  }

  /** The notebook or console whose kernel has the widget: the own one, or, of a view outside of any, whichever has it. */
  private async _home(model: IRenderMime.IMimeModel): Promise<Host | null> {
    const id = (model.data[WIDGET_MIME] as { model_id?: string } | undefined)?.model_id ?? '';
    for (const host of this._host === null ? this._follower.hosts() : [this._host]) {
      const kernel = host.sessionContext.session?.kernel ?? null;
      // A kernel that is in the middle of the cell which shows them answers only afterwards.
      if (kernel !== null && kernel.status === 'busy' && this._bokeh.here) {
        return host;
      }
      if (kernel !== null && (await hasComm(kernel, id))) {
        return host;
      }
    }
    return null;
  }

  private async _put(registry: IRenderMimeRegistry, mime: string, remark: string): Promise<void> {
    const model = this._model;
    if (model === null) {
      return;
    }
    for (const widget of [...this.widgets]) {
      widget.dispose();
    }
    if (remark !== '') {
      const hint = new Widget({ node: document.createElement('p') });
      hint.addClass('jp-ExoLab-hint');
      hint.node.textContent = remark;
      this.addWidget(hint);
    }
    const renderer = registry.createRenderer(mime);
    this.addWidget(renderer);
    await renderer.renderModel(model);
  }

  private _model: IRenderMime.IMimeModel | null = null;
  private _host: Host | null = null;
  private _turn = 0;
  private _live = false;
}

/** Has the kernel this widget? */
async function hasComm(kernel: Kernel.IKernelConnection, id: string): Promise<boolean> {
  try {
    const { content } = await kernel.requestCommInfo({ target_name: 'jupyter.widget' });
    return content.status === 'ok' && id in content.comms;
  } catch {
    return false; // the kernel went away before it answered
  }
}
