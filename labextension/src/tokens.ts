/** What our plugins give each other. */

import { Token } from '@lumino/coreutils';

import type { Follower } from './follower';
import type { ServerWatch } from './serverWatch';
import type { Trans } from './text';

export interface IExoLab {
  readonly follower: Follower;
  readonly server: ServerWatch;
  readonly trans: Trans;
}

export const IExoLab = new Token<IExoLab>(
  'exo-lab:IExoLab',
  'The connection to the cluster of the active kernel.'
);
