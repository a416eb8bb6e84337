/** The types of events whose text is searched, with where it is. Source: "Server Side Search". */
export const searchableKeys: ReadonlyMap<string, string> = new Map([
  ["m.room.message", "content.body"],
  ["m.room.name", "content.name"],
  ["m.room.topic", "content.topic"]
])
