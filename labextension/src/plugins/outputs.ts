/** Views in the outputs of cells. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';

import { BokehJs, fetchBokeh } from '../bokehJs';
import { ChartsOutput } from '../chartsOutput';
import { OutputWidget } from '../outputView';
import { IExoLab } from '../tokens';
import { CHARTS_MIME, VIEW_MIME } from '../types';

export const outputs: JupyterFrontEndPlugin<void> = {
  id: 'exo-lab:outputs',
  description: 'Live views in cell outputs.',
  autoStart: true,
  requires: [IExoLab],
  optional: [IRenderMimeRegistry],
  activate: (app: JupyterFrontEnd, exo: IExoLab, registry: IRenderMimeRegistry | null): void => {
    if (registry === null) {
      return;
    }
    const bokeh = new BokehJs(() => fetchBokeh(app.serviceManager.serverSettings));
    registry.addFactory(
      {
        safe: false, // it shows a widget, which is not
        mimeTypes: [CHARTS_MIME],
        defaultRank: -20, // before the widget (-10), which fails in a page without BokehJS
        createRenderer: () => new ChartsOutput(exo.follower, bokeh, registry, exo.trans)
      },
      -20
    );
    registry.addFactory(
      {
        // Safe: it draws data, and runs nothing that stands in it.
        safe: true,
        mimeTypes: [VIEW_MIME],
        defaultRank: 40, // before HTML and SVG, which the same output carries for other readers
        createRenderer: () => new OutputWidget(exo.follower, exo.trans)
      },
      0
    );
  }
};
