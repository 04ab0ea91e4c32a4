"""Text for recovering and measuring the embedded model: no benchmark, nothing downloaded.

Three sources, each reproducible on any machine that has the packages:

- ``documentation``: docstrings and package descriptions of installed Python packages (training),
- ``generated``: text that the dense model itself samples from topic prompts (training),
- ``independent``: the language reference that ships with Python as ``pydoc_data.topics`` (measuring only).
"""

import ast
import importlib.metadata
import importlib.util
import random
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

TRAINING_PACKAGES = (
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "pandas",
    "statsmodels",
    "matplotlib",
    "numpy",
    "captum",
    "datasets",
)
TOPICS = (  # noqa: SIM905 (a list would fill 200 lines)
    "water,ice,rain,the sun,the moon,stars,planets,gravity,magnets,electricity,light,sound,heat,volcanoes,"
    "earthquakes,rivers,oceans,deserts,forests,mountains,weather,clouds,snow,wind,soil,rocks,metals,plastic,wood,"
    "glass,paper,plants,trees,flowers,seeds,leaves,roots,fruit,vegetables,bees,ants,butterflies,spiders,fish,"
    "sharks,whales,frogs,snakes,birds,owls,penguins,dogs,cats,horses,cows,sheep,wolves,bears,lions,elephants,"
    "dinosaurs,the human heart,the lungs,the brain,bones,muscles,blood,skin,teeth,sleep,exercise,healthy food,"
    "vitamins,bacteria,viruses,medicine,doctors,nurses,teachers,farmers,bakers,firefighters,pilots,carpenters,"
    "musicians,painters,writers,scientists,engineers,lawyers,soldiers,shopkeepers,a school,a library,a hospital,"
    "a kitchen,a garden,a farm,a market,a bank,a post office,an airport,a train station,a museum,a restaurant,"
    "a beach,an island,a castle,a bridge,a ship,a bicycle,a car,an airplane,a rocket,a clock,a telephone,"
    "a computer,the internet,a camera,a lamp,a hammer,a knife,a spoon,a pot,an oven,a refrigerator,"
    "a washing machine,soap,clothes,shoes,hats,umbrellas,money,taxes,trade,insurance,work,holidays,birthdays,"
    "weddings,families,brothers and sisters,grandparents,babies,friendship,kindness,honesty,courage,anger,fear,"
    "sadness,happiness,jealousy,pride,patience,mistakes,rules,laws,voting,kings and queens,presidents,"
    "ancient Egypt,ancient Rome,ancient Greece,the Middle Ages,the Industrial Revolution,explorers,inventions,"
    "maps,compasses,calendars,numbers,addition,fractions,triangles,circles,graphs,probability,measuring length,"
    "measuring time,languages,alphabets,nouns and verbs,rhymes,poems,stories,newspapers,letters,jokes,riddles,"
    "music,guitars,drums,singing,dancing,painting,sculpture,theatre,films,football,basketball,tennis,swimming,"
    "running,chess,cooking rice,baking bread,making soup,growing tomatoes,saving water,recycling,pollution,"
    "climate,solar power,oil,coal,engines,wheels,levers,batteries,robots,programming,telescopes,microscopes,"
    "atoms,molecules,acids,oxygen,photosynthesis,evolution,genes,cells,food chains,migration,hibernation,"
    "camouflage,seasons,day and night,tides"
).split(",")
PROMPTS = (
    "Write a short paragraph about {}.",
    "Explain {} to a child.",
    "Write five questions with short answers about {}.",
    "Tell a short story about {}.",
    "What are three interesting facts about {}?",
    "Why is {} important? Answer briefly.",
    "What happens when something goes wrong with {}?",
    "Write a dialogue between two people about {}.",
    "How would you describe {} in simple words?",
    "Question: What is true about {}?\nAnswer:",
    "Compare {} with something similar.",
    "Give advice to somebody who wants to learn about {}.",
)


def _docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # templates and python 2 leftovers that some packages ship
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) >= 200:
                yield text


def documentation(packages: tuple[str, ...] = TRAINING_PACKAGES) -> list[str]:
    """Docstrings of at least 200 characters, without duplicates, in the order of the sorted file names."""
    seen: dict[str, None] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"The recovery corpus needs the package {package!r}; pip install it.")
        for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
            if "tests" not in path.parts:
                seen.update(dict.fromkeys(_docstrings(path.read_text(errors="ignore"))))
    return list(seen)


def descriptions() -> list[str]:
    """The long descriptions (README texts) of all installed distributions."""
    texts = {d.name: str(d.metadata.json.get("description", "")) for d in importlib.metadata.distributions()}
    return [texts[name] for name in sorted(texts) if len(texts[name]) >= 200]


def independent() -> list[str]:
    """Python's own language reference: real prose that is in none of the training sources."""
    from pydoc_data.topics import topics

    return [re.sub(r"\n{3,}", "\n\n", text) for _, text in sorted(topics.items()) if len(text) >= 400]


def pack(texts: list[str], tokenizer: PreTrainedTokenizerBase, length: int, limit: int, seed: int) -> Tensor:
    """Shuffle, join with the end token, and cut into rows: ``[N, T]`` token ids, at most ``limit`` rows."""
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    ids: list[int] = []
    for index in order:
        ids += [*tokenizer(texts[index]).input_ids[: 8 * length], tokenizer.eos_token_id]
        if len(ids) >= limit * length:
            break
    rows = min(limit, len(ids) // length)
    return torch.tensor(ids[: rows * length]).view(rows, length)


def topic_prompts(tokenizer: PreTrainedTokenizerBase, seed: int) -> list[list[int]]:
    """Every topic with every prompt, in the chat template, shuffled."""
    prompts = [prompt.format(topic) for topic in TOPICS for prompt in PROMPTS]
    random.Random(seed).shuffle(prompts)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return [list(tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False)) for c in chats]  # type: ignore[arg-type]


@torch.no_grad()
def generated(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, rows: int, length: int, seed: int, batch: int = 96
) -> Iterator[Tensor]:
    """Yield blocks ``[<= batch, T]`` that the dense model samples at temperature 0.8 after topic prompts."""
    torch.manual_seed(seed)
    prompts = topic_prompts(tokenizer, seed)
    for start in range(0, rows, batch):
        chosen = [prompts[i % len(prompts)] for i in range(start, min(start + batch, rows))]
        inputs = tokenizer.pad({"input_ids": chosen}, padding_side="left", return_tensors="pt")
        new = length - inputs.input_ids.shape[1]
        out = model.generate(**inputs, do_sample=True, temperature=0.8, top_k=0, min_new_tokens=new, max_new_tokens=new)
        # the left padding goes to the end: what the dense model says of it is learned like the rest
        yield torch.stack([torch.cat([r[m == 1], r[m == 0]]) for r, m in _with_mask(out, inputs.attention_mask)])


def _with_mask(rows: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    ones = torch.ones(len(rows), rows.shape[1] - mask.shape[1], dtype=mask.dtype)
    yield from zip(rows, torch.cat([mask, ones], 1), strict=True)
