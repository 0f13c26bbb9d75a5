"""The benchmark: backbones, recipes, the training loop, evaluation, records, tables, figures and the command line."""

if __name__ == "benchmark":  # `python -m benchmark` imports it by this name, only for its __main__
    import sys

    from visual_decathlon.datasets.old_names import moved

    class _Moved:
        @staticmethod
        def find_spec(name: str, path=None, target=None) -> None:
            if name.startswith("benchmark.") and name != "benchmark.__main__":
                raise moved(name)

    sys.meta_path.insert(0, _Moved)
