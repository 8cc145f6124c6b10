/** Follows the active kernel; everything else needs this. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IConsoleTracker } from '@jupyterlab/console';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { Follower } from '../follower';
import { Pool } from '../pool';
import { openSocket, ServerWatch } from '../serverWatch';
import { IExoLab } from '../tokens';

export const SETTINGS = 'exo-lab:plugin';

export const base: JupyterFrontEndPlugin<IExoLab> = {
  id: SETTINGS,
  description: 'Follows the active kernel and its cluster.',
  autoStart: true,
  provides: IExoLab,
  optional: [INotebookTracker, IConsoleTracker, ITranslator, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker | null,
    consoles: IConsoleTracker | null,
    translator: ITranslator | null,
    settings: ISettingRegistry | null
  ): IExoLab => {
    const trans = (translator ?? nullTranslator).load('exo_lab');
    const pool = new Pool();
    if (settings !== null) {
      settings.load(SETTINGS).then(
        loaded => {
          const take = (): void => {
            pool.contextTokens = loaded.get('contextTokens').composite as number;
          };
          take();
          loaded.changed.connect(take);
        },
        (error: unknown) => console.warn('exo_lab: settings cannot be read; the defaults hold.', error)
      );
    }
    const server = new ServerWatch(() => openSocket(app.serviceManager.serverSettings));
    return { follower: new Follower(pool, app.shell, notebooks, consoles), server, trans };
  }
};
