/** The side panel and the dashboard as widgets: they show what the follower follows. */

import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import { Follower } from './follower';
import { Shown, useSignal } from './parts';
import { Actions, PanelView } from './panelView';
import type { ServerWatch } from './serverWatch';
import { Trans } from './text';

export class ExoPanel extends ReactWidget {
  constructor(
    private readonly _follower: Follower,
    private readonly _server: ServerWatch,
    private readonly _actions: Actions,
    private readonly _trans: Trans,
    private readonly _wide: boolean
  ) {
    super();
    this.addClass('jp-ExoLab');
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._follower.look();
    this.update();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.update();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this._follower.look();
    }
  }

  /** Nothing before it is seen for the first time; from then on it keeps what was chosen in it. */
  protected override render(): React.ReactElement | null {
    this._opened ||= this.isVisible;
    return !this._opened ? null : (
      <Shown.Provider value={this.isVisible}>
        <Followed
          follower={this._follower}
          server={this._server}
          actions={this._actions}
          trans={this._trans}
          wide={this._wide}
        />
      </Shown.Provider>
    );
  }

  private _opened = false;
}

function Followed(props: {
  follower: Follower;
  server: ServerWatch;
  actions: Actions;
  trans: Trans;
  wide: boolean;
}): React.ReactElement {
  useSignal(props.follower.changed);
  return (
    <PanelView
      connection={props.follower.current}
      server={props.server}
      actions={props.actions}
      trans={props.trans}
      wide={props.wide}
    />
  );
}
