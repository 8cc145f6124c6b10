/** Our icon: three devices in a ring. */

import { LabIcon } from '@jupyterlab/ui-components';

const ring = [
  '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 24 24">',
  '<g class="jp-icon3" fill="none" stroke="#616161" stroke-width="1.8">',
  '<path d="M9.6 6.6 A8 8 0 0 0 4.6 13.2M8 19.6 A8 8 0 0 0 16 19.6M19.4 13.2 A8 8 0 0 0 14.4 6.6"/></g>',
  '<g class="jp-icon3" fill="#616161"><circle cx="12" cy="5" r="3"/><circle cx="5" cy="17" r="3"/>',
  '<circle cx="19" cy="17" r="3"/></g></svg>'
].join('');

export const exoIcon = new LabIcon({ name: 'exo-lab:ring', svgstr: ring });
