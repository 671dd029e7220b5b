"""Checkpoints: weights and moments per parameter in float32, whatever the ZeRO stage and the number of workers, plus
the state of named providers as JSON. Nothing in them is pickled.

    checkpoints/step-00000200/
        state-00000-of-00002.safetensors    "weight/<parameter>", "exp_avg/<parameter>", "exp_avg_sq/<parameter>"
        manifest.json                       step, providers' state, files with sizes and checksums; written last
"""
