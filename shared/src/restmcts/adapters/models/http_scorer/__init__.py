"""Process and outcome reward models behind HTTP: the pooling routes of vLLM and SGLang as a
`StepScorer`.
"""
