/** The status bar's item. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';

import { Commands } from '../commands';
import { StatusItem } from '../statusItem';
import { IExoLab } from '../tokens';

export const status: JupyterFrontEndPlugin<void> = {
  id: 'exo-lab:status',
  description: 'Nodes, model and tokens a second in the status bar.',
  autoStart: true,
  requires: [IExoLab],
  optional: [IStatusBar],
  activate: (app: JupyterFrontEnd, exo: IExoLab, bar: IStatusBar | null): void => {
    if (bar === null) {
      return;
    }
    const item = new StatusItem(exo.follower, exo.trans, () => void app.commands.execute(Commands.openPanel));
    bar.registerStatusItem('exo-lab:status', {
      item,
      align: 'left',
      rank: 100,
      isActive: () => item.isActive,
      activeStateChanged: item.activeStateChanged
    });
  }
};
