/** The side panel, and the dashboard in the main area. */

import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';

import { Commands } from '../commands';
import type { Follower } from '../follower';
import { exoIcon } from '../icons';
import { ExoPanel } from '../panel';
import type { Actions } from '../panelView';
import { IExoLab } from '../tokens';

const PANEL = 'exo-lab-panel';
const DASHBOARD = 'exo-lab-dashboard';

export const panels: JupyterFrontEndPlugin<void> = {
  id: 'exo-lab:panels',
  description: 'The side panel and, where the main area has room for it, the dashboard.',
  autoStart: true,
  requires: [IExoLab],
  optional: [ICommandPalette, ILauncher, ILayoutRestorer, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    exo: IExoLab,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    lab: ILabShell | null
  ): void => {
    addPanel(app, exo, palette, restorer, lab !== null);
    // Notebook 7 shows one document a page: what is added to its main area beside it is dropped without a word.
    if (lab !== null) {
      addDashboard(app, exo, palette, launcher, restorer);
    }
  }
};

function actionsOf(app: JupyterFrontEnd, follower: Follower, dashboard: boolean): Actions {
  return {
    connect: () => void app.commands.execute(Commands.connect),
    look: () => void follower.current?.link.lookAgain(),
    insert: code => void follower.insert(code, false),
    openDashboard: dashboard ? () => void app.commands.execute(Commands.openDashboard) : null
  };
}

function addPanel(
  app: JupyterFrontEnd,
  exo: IExoLab,
  palette: ICommandPalette | null,
  restorer: ILayoutRestorer | null,
  dashboard: boolean
): void {
  const { follower, server, trans } = exo;
  const side = new ExoPanel(follower, server, actionsOf(app, follower, dashboard), trans, false);
  side.id = PANEL;
  side.title.icon = exoIcon;
  side.title.caption = trans.__('The cluster of this notebook’s kernel');
  side.node.setAttribute('aria-label', trans.__('exo_lab'));
  side.node.setAttribute('role', 'region');
  app.shell.add(side, 'left', { rank: 600, type: 'exo_lab' });
  restorer?.add(side, PANEL);
  app.commands.addCommand(Commands.openPanel, {
    label: trans.__('Show the cluster panel'),
    caption: trans.__('Devices, links, placement of layers and the running answer, beside the notebook'),
    icon: exoIcon,
    describedBy: { args: { type: 'object', properties: {} } },
    execute: () => app.shell.activateById(PANEL)
  });
  palette?.addItem({ command: Commands.openPanel, category: 'exo_lab' });
}

function addDashboard(
  app: JupyterFrontEnd,
  exo: IExoLab,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  restorer: ILayoutRestorer | null
): void {
  const { follower, server, trans } = exo;
  const tracker = new WidgetTracker<MainAreaWidget<ExoPanel>>({ namespace: DASHBOARD });
  const make = (): MainAreaWidget<ExoPanel> => {
    const widget = new MainAreaWidget({
      content: new ExoPanel(follower, server, actionsOf(app, follower, false), trans, true)
    });
    widget.id = DASHBOARD;
    widget.title.label = trans.__('exo_lab');
    widget.title.caption = trans.__('The cluster of the kernel that was active last');
    widget.title.icon = exoIcon;
    widget.title.closable = true;
    void tracker.add(widget);
    return widget;
  };
  app.commands.addCommand(Commands.openDashboard, {
    label: trans.__('Cluster dashboard'),
    caption: trans.__('Devices, links, placement of layers and the running answer, in the main area'),
    icon: exoIcon,
    describedBy: { args: { type: 'object', properties: {} } },
    execute: () => {
      const widget = tracker.currentWidget ?? make();
      if (!widget.isAttached) {
        app.shell.add(widget, 'main', { mode: 'split-right' });
      }
      app.shell.activateById(widget.id);
    }
  });
  if (restorer !== null) {
    void restorer.restore(tracker, { command: Commands.openDashboard, name: () => DASHBOARD });
  }
  palette?.addItem({ command: Commands.openDashboard, category: 'exo_lab' });
  launcher?.add({ command: Commands.openDashboard, category: trans.__('Other'), rank: 10 });
}
