/** React asks for this where tests drive it. */
(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

/** Lumino's widgets want it to be there; jsdom has none. */
(globalThis as { DragEvent?: unknown }).DragEvent ??= class extends MouseEvent {};
