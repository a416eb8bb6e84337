/**
 * Semicolons in the path of a URL. RFC 3986 lets them stand there as they are, so a transaction ID, a state key or a user
 * ID may bring one; the router would take it for the beginning of the query, and two IDs for the same.
 */

/** The URL with the semicolons of its path as `%3B`. Those of its query stay. */
export const encodeSemicolons = (url: string): string => {
  if (!url.includes(";")) return url
  const query = url.indexOf("?")
  if (query === -1) return url.replaceAll(";", "%3B")
  return url.slice(0, query).replaceAll(";", "%3B") + url.slice(query)
}
