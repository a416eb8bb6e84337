/**
 * The path of a URL.
 */

/** The URL without its query, which may contain an access token, and without its fragment and parameters. */
export const pathOf = (url: string): string => {
  const end = url.search(/[?;#]/)
  return end === -1 ? url : url.slice(0, end)
}
