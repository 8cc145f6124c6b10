/** Every action as a command: for the palette, the toolbar, menus and keyboard shortcuts. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { CommandToolbarButton } from '@jupyterlab/ui-components';

import { Commands, CONNECT_CODE, SNIPPETS } from '../commands';
import { exoIcon } from '../icons';
import { isGenerating } from '../model';
import { IExoLab } from '../tokens';

const TOOLBAR_ITEM = 'exo-lab-connect'; // its place in the toolbar is in schema/plugin.json
const NO_ARGS = { args: { type: 'object', properties: {} } } as const;

export const commands: JupyterFrontEndPlugin<void> = {
  id: 'exo-lab:commands',
  description: 'Commands: make a kernel a node, stop a generation, insert code.',
  autoStart: true,
  requires: [IExoLab],
  optional: [ICommandPalette, IToolbarWidgetRegistry],
  activate: (
    app: JupyterFrontEnd,
    exo: IExoLab,
    palette: ICommandPalette | null,
    toolbar: IToolbarWidgetRegistry | null
  ): void => {
    const { follower, trans } = exo;
    const category = 'exo_lab';
    app.commands.addCommand(Commands.connect, {
      label: trans.__('Make this kernel a node'),
      caption: trans.__('Insert a cell with %exo connect and run it'),
      icon: exoIcon,
      describedBy: {
        args: {
          type: 'object',
          properties: {
            notebook: { type: 'string', description: 'Id of the notebook; the one that is followed if none' }
          }
        }
      },
      isEnabled: ({ notebook }) => {
        const host = notebook === undefined ? null : follower.notebook(String(notebook));
        const connection = notebook === undefined ? follower.current : host && follower.connectionOf(host);
        const phase = connection?.link.model.state.phase;
        return phase !== undefined && phase !== 'other-language' && phase !== 'dead';
      },
      execute: async ({ notebook }) => {
        const host = notebook === undefined ? undefined : follower.notebook(String(notebook));
        if (host) {
          app.shell.activateById(host.id); // so that it is the one that the panel shows
        }
        const inserted = await follower.insert(CONNECT_CODE, true, host);
        // What a kernel says while its connection is being restored can be lost; the cell's end is not.
        follower.look();
        return inserted;
      }
    });
    app.commands.addCommand(Commands.stop, {
      label: trans.__('Stop the answer'),
      caption: trans.__('End the running generation on every node, and keep the text'),
      icon: exoIcon,
      describedBy: NO_ARGS,
      isEnabled: () => follower.current !== null && isGenerating(follower.current.link.model.state),
      execute: () => follower.current?.link.stop()
    });
    app.commands.addCommand(Commands.refresh, {
      label: trans.__('Look for the cluster again'),
      caption: trans.__('Ask the active kernel whether exo_lab is loaded, and how its cluster is'),
      icon: exoIcon,
      describedBy: NO_ARGS,
      isEnabled: () => follower.current !== null,
      execute: () => follower.current?.link.lookAgain()
    });
    app.commands.addCommand(Commands.insert, {
      label: args => SNIPPETS[String(args.snippet)]?.label ?? trans.__('Insert exo_lab code'),
      caption: trans.__('Insert a cell with example code, without running it'),
      icon: exoIcon,
      describedBy: {
        args: {
          type: 'object',
          properties: {
            snippet: { type: 'string', enum: Object.keys(SNIPPETS), description: 'Which code to insert' }
          }
        }
      },
      isEnabled: () => follower.current !== null,
      execute: args => {
        const snippet = SNIPPETS[String(args.snippet)];
        return snippet === undefined ? false : follower.insert(snippet.code, false);
      }
    });
    toolbar?.addFactory('Notebook', TOOLBAR_ITEM, (panel: NotebookPanel) => connectButton(app, panel));
    if (palette !== null) {
      for (const command of [Commands.connect, Commands.stop, Commands.refresh]) {
        palette.addItem({ command, category });
      }
      for (const snippet of Object.keys(SNIPPETS)) {
        palette.addItem({ command: Commands.insert, category, args: { snippet } });
      }
    }
    // With every token something changes, and what JupyterLab does for a changed command is much.
    let told = '';
    const enabledChanged = (): void => {
      const state = follower.current?.link.model.state;
      const now = state === undefined ? 'none' : `${state.phase} ${isGenerating(state)}`;
      if (now !== told) {
        told = now;
        for (const command of [Commands.connect, Commands.stop, Commands.refresh, Commands.insert]) {
          app.commands.notifyCommandChanged(command);
        }
      }
    };
    let watched = follower.current?.link.model ?? null;
    follower.changed.connect(() => {
      watched?.changed.disconnect(enabledChanged);
      watched = follower.current?.link.model ?? null;
      watched?.changed.connect(enabledChanged);
      enabledChanged();
    });
    watched?.changed.connect(enabledChanged);
  }
};

/** The toolbar's button acts on the notebook that it stands in, which need not be the one that has the focus. */
function connectButton({ commands }: JupyterFrontEnd, panel: NotebookPanel): CommandToolbarButton {
  const { sessionContext, toolbar } = panel;
  const enabledChanged = (): void => commands.notifyCommandChanged(Commands.connect);
  sessionContext.kernelChanged.connect(enabledChanged);
  sessionContext.statusChanged.connect(enabledChanged);
  return new CommandToolbarButton({
    commands,
    id: Commands.connect,
    args: {
      toolbar: true,
      get notebook() {
        return panel.id; // given to it only after its toolbar is made
      }
    },
    label: '',
    noFocusOnClick: toolbar.noFocusOnClick
  });
}
