/** Names a node in maps: its host and port. */
export const keyOf = ({ host, port }: { readonly host: string; readonly port: number }): string => `${host}:${port}`
