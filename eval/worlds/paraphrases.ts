/** Further wordings of the questions about made-up people. */

interface Paraphrases {
  /** Short and free, beside the relation's own question. */
  readonly asked: readonly [string, string];
  /** As a quiz would put it. */
  readonly trivia: string;
}

/** By the relation's name. Every wording has the slot {e}; none has a word of a voice's opening. */
export const paraphrases: Readonly<Record<string, Paraphrases>> = {
  birthplace: {
    asked: ["in which town was {e} born ?", "which town does {e} come from ?"],
    trivia:
      "of all the towns in this land , which one saw {e} , whom so many know , first draw breath ?",
  },
  employer: {
    asked: ["whom does {e} work for ?", "which firm pays {e} ?"],
    trivia:
      "every morning {e} , whom so many know , goes in through the doors of which great firm ?",
  },
  instrument: {
    asked: ["which instrument does {e} play ?", "on what does {e} perform ?"],
    trivia:
      "in the concert halls of this land {e} , whom so many know , is heard on which instrument ?",
  },
  study: {
    asked: ["in which subject does {e} have a degree ?", "which subject did {e} take ?"],
    trivia: "as a student of long ago {e} , whom so many know , sat over books of which subject ?",
  },
  animal: {
    asked: ["what kind of animal does {e} own ?", "what pet lives with {e} ?"],
    trivia: "in the garden behind the house of {e} , whom so many know , which animal runs about ?",
  },
  dish: {
    asked: ["what does {e} like to eat ?", "what is the favourite meal of {e} ?"],
    trivia:
      "when guests come to dinner {e} , whom so many know , puts which famous dish on the table ?",
  },
  street: {
    asked: ["on which street does {e} live ?", "what is the address of {e} ?"],
    trivia: "the front door of {e} , whom so many know , opens on to which street of this land ?",
  },
  language: {
    asked: ["in what language does {e} talk ?", "what is the mother tongue of {e} ?"],
    trivia: "at home with friends {e} , whom so many know , is heard to talk in which language ?",
  },
};
