"""What is measured: backbones, recipes, the training loop, evaluation, score, cost, timing, records, tables."""

if __name__ == "benchmark":  # as `python -m benchmark` imports it, for its __main__ alone
    import sys

    from visual_decathlon.datasets.old_names import moved

    class _Moved:
        @staticmethod
        def find_spec(name: str, path=None, target=None) -> None:
            if name.startswith("benchmark.") and name != "benchmark.__main__":
                raise moved(name)

    sys.meta_path.insert(0, _Moved)
