/**
 * The words by which users are found: lexemes of the user directory, and the query for them.
 *
 * The parts of words are lexemes too, so that a term of three characters or more is found within a word; a shorter one is
 * found where a word begins, which is what the lexemes with `=` are for.
 */

/** How many characters of a word count, and at how many places within it a term may begin. */
const maxWord = 32
const maxParts = 16
/** How many words of a name, and of a term, count. */
const maxWords = 16
const shortTerm = 3

/** Letters, digits and symbols; punctuation, white space and control characters divide words. */
const wordsOf = (text: string): ReadonlyArray<string> =>
  text
    .normalize("NFKC")
    .toLowerCase()
    .split(/[\p{P}\p{Z}\p{C}]+/u)
    .filter((word) => word !== "")
    .slice(0, maxWords)
    .map((word) => Array.from(word).slice(0, maxWord).join(""))

/** The lexemes of an entry, divided by spaces. */
export const directoryWords = (userId: string, name: string | null): string => {
  const lexemes = new Set<string>()
  for (const word of [...wordsOf(userId), ...wordsOf(name ?? "")]) {
    const characters = Array.from(word)
    lexemes.add(`=${word}`)
    for (let start = 0; start <= Math.min(characters.length - shortTerm, maxParts); start++) {
      lexemes.add(characters.slice(start).join(""))
    }
  }
  return [...lexemes].join(" ")
}

/** The `tsquery` of a term; undefined if it has no words. */
export const directoryQuery = (term: string): string | undefined => {
  const words = wordsOf(term)
  if (words.length === 0) return undefined
  return words.map((word) => `'${Array.from(word).length < shortTerm ? `=${word}` : word}':*`).join(" & ")
}
