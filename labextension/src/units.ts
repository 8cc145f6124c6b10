/** Bytes, seconds and rates as people read them: a port of exo_lab/front/units.py, held to it by a test (but for exact ties). */

const DASH = '\u2013'; // an en dash, as between page numbers
const MICRO = '\u00b5';

/** 1536 -> "1.5 KiB". Three significant digits, binary units. */
export function showBytes(sizeBytes: number): string {
  let value = sizeBytes;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (Math.abs(value) >= 999.5 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return at === 0 ? `${value.toFixed(0)} B` : `${three(value)} ${units[at]}`;
}

/** 0.0123 -> "12.3 ms". From microseconds to minutes. */
export function showSeconds(durationS: number): string {
  if (!Number.isFinite(durationS)) {
    return '?';
  }
  if (durationS < 0.9995e-3) {
    return `${(durationS * 1e6).toFixed(0)} ${MICRO}s`;
  }
  if (durationS < 0.9995) {
    return `${three(durationS * 1e3)} ms`;
  }
  if (durationS < 99.95) {
    return `${three(durationS)} s`;
  }
  const whole = Math.round(durationS);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** Tokens a second: 31.234 -> "31.2 tok/s". */
export function showRate(perS: number): string {
  return `${three(perS)} tok/s`;
}

/** Bits a second, as networks are sold: 4e8 bytes -> "3.20 Gbit/s". */
export function showBandwidth(bytesPerS: number): string {
  let value = bytesPerS * 8;
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s'];
  let at = 0;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${three(value)} ${units[at]}`;
}

/** The half-open range [start, end) as people say it: the last layer is named. */
export function showLayers(start: number, end: number): string {
  return end - start === 1 ? `${start}` : `${start}${DASH}${end - 1}`;
}

/** Three significant digits without an exponent. */
function three(value: number): string {
  if (value >= 99.95) {
    return value.toFixed(0);
  }
  return value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}
