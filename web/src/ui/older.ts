/** Rows that the server gives at once. */
export const MOST_ROWS = 500;

/**
 * How many rows to ask for so that older ones are among them. They are asked for together with those that are shown: a list that is asked
 * for again every few seconds would lose what was only added to it.
 */
export const withOlder = (first: number) => Math.min(first * 5, MOST_ROWS);
