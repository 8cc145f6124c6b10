/** A card in the launcher and an entry in the palette for each lesson. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, showErrorMessage } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';

import { Commands, LESSONS } from '../commands';
import { exoIcon } from '../icons';
import { fetchLessons, ownCopy } from '../lessons';
import { IExoLab } from '../tokens';

export const lessons: JupyterFrontEndPlugin<void> = {
  id: 'exo-lab:lessons',
  description: 'Opens the lessons.',
  autoStart: true,
  requires: [IExoLab],
  optional: [ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    { trans }: IExoLab,
    palette: ICommandPalette | null,
    launcher: ILauncher | null
  ): void => {
    const { contents, serverSettings } = app.serviceManager;
    app.commands.addCommand(Commands.openLesson, {
      label: args => LESSONS[String(args.lesson)] ?? trans.__('Open a lesson'),
      caption: trans.__('Open a lesson of exo_lab: a copy in this folder, which is yours'),
      icon: exoIcon,
      describedBy: {
        args: {
          type: 'object',
          properties: {
            lesson: { type: 'string', enum: Object.keys(LESSONS), description: 'Which lesson' },
            cwd: { type: 'string', description: 'The folder in which the copy is' }
          }
        }
      },
      execute: async args => {
        try {
          const folder = String(args.cwd ?? '');
          const path = await ownCopy(
            contents,
            () => fetchLessons(serverSettings),
            String(args.lesson),
            folder
          );
          return await app.commands.execute('docmanager:open', { path });
        } catch (error) {
          await showErrorMessage(trans.__('The lesson cannot be opened'), error as Error);
        }
      }
    });
    Object.keys(LESSONS).forEach((lesson, rank) => {
      palette?.addItem({ command: Commands.openLesson, category: 'exo_lab', args: { lesson } });
      launcher?.add({
        command: Commands.openLesson,
        category: trans.__('exo_lab lessons'),
        rank,
        args: { lesson }
      });
    });
  }
};
