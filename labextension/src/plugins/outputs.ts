/** Views in the outputs of cells. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';

import { OutputWidget } from '../outputView';
import { IExoLab } from '../tokens';
import { VIEW_MIME } from '../types';

export const outputs: JupyterFrontEndPlugin<void> = {
  id: 'exo-lab:outputs',
  description: 'Live views in cell outputs.',
  autoStart: true,
  requires: [IExoLab],
  optional: [IRenderMimeRegistry],
  activate: (_app: JupyterFrontEnd, exo: IExoLab, registry: IRenderMimeRegistry | null): void => {
    registry?.addFactory(
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
