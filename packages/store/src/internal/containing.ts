/** The pattern of LIKE for texts in lower case that contain a part, ignoring its case. Null, which LIKE never matches, without a part. */
export const containing = (part: string | undefined): string | null =>
  part === undefined ? null : `%${part.toLowerCase().replace(/[\\%_]/g, "\\$&")}%`
