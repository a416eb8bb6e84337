/**
 * The path of a URL.
 */

/** Without the query, which may hold an access token. */
export const pathOf = (url: string): string => {
  const end = url.search(/[?;#]/)
  return end === -1 ? url : url.slice(0, end)
}
