"""Small random CLIP and SigLIP checkpoints with their tokenizers, in the hub's own format."""

import io

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from configs.schema import EncoderSpec

LENGTH = 12
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
KINDS = ("clip", "siglip")


def save_clip(folder, length=LENGTH):
    """A CLIPModel whose towers are of different widths, and its tokenizer of `length` tokens."""
    vocabulary = [*ALPHABET, *(letter + "</w>" for letter in ALPHABET), "cu", "cup</w>"]
    words = {word: i for i, word in enumerate([*vocabulary, "<|startoftext|>", "<|endoftext|>"])}
    text = {
        **VISION,
        "hidden_size": 48,
        "vocab_size": len(words),
        "max_position_embeddings": length,
        "bos_token_id": words["<|startoftext|>"],
        "eos_token_id": words["<|endoftext|>"],
    }
    merges = [("c", "u"), ("cu", "p</w>")]
    transformers.CLIPTokenizer(words, merges, model_max_length=length).save_pretrained(folder)
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    settings = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessorPil(**settings).save_pretrained(folder)
    return save(transformers.CLIPModel(config), folder)


def save_siglip(folder):
    """A SiglipModel, with a tokenizer that (as SigLIP 2's) leaves lower case to the caller."""
    words = ["</s>", "<unk>", "▁", *map(chr, range(33, 65)), *map(chr, range(97, 127)), "cup"]
    text = {**VISION, "vocab_size": len(words), "max_position_embeddings": LENGTH}
    scored = [(word, -1.0 - i / 100) for i, word in enumerate(words)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=1))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_max_length=LENGTH,
    )
    fast.save_pretrained(folder)
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return save(transformers.SiglipModel(config), folder)


def save_trained_clip(folder, pictures, captions, steps=100):
    """A small CLIPModel that has learnt which caption belongs to which picture, in any light.

    pictures: PNG files; captions: one for each.
    """
    # Its layers are so small that threads only wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = save_clip(folder, length=64).train()
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    shown = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    pixels = processor(shown, return_tensors="pt")["pixel_values"]
    texts = tokenizer(list(captions), padding=True, return_tensors="pt")
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    torch.manual_seed(2)
    for _ in range(steps):
        light = 0.7 + 0.6 * torch.rand(len(pixels), 1, 1, 1)
        loss = model(**texts, pixel_values=pixels * light, return_loss=True).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.set_num_threads(threads)
    model.eval().save_pretrained(folder)


def save(model, folder):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            # Fresh networks answer almost the same whatever they see; these do not.
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.eval().save_pretrained(folder)
    return model


def spec(weights, **values):
    return EncoderSpec(name="x", family="huggingface", weights=str(weights), **values)


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def encoded(pixels, format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()
